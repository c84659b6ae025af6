"""What the workers that compute features need not wait for."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_workers_that_compute_features_do_not_import_torchvision() -> None:
    code = "import sys, btc_ray.training.features; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
