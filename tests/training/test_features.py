"""What the workers that compute features need not wait for, and that it does not matter what computes."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from btc_ray.model.engines.choose import choose
from btc_ray.model.network import build_network
from btc_ray.training import features
from btc_ray.training.augment import FLIPS


@pytest.mark.slow
def test_workers_that_compute_features_do_not_import_torchvision() -> None:
    code = "import sys, btc_ray.training.features; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("threads", [1, None])
def test_both_engines_see_the_same_features_of_every_flip(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    state = build_network(4).state_dict()
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    found = {}
    for engine in ("openvino", "torch"):
        monkeypatch.setattr(features, "choose", partial(choose, engine=engine))
        network = features._Backbone(backbone, FLIPS, 0.0, threads=threads)
        found[engine] = network.features(pixels)
        np.testing.assert_allclose(found[engine][:, 1], network.features(np.flip(pixels, FLIPS[1]))[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["openvino"], found["torch"], rtol=1e-3, atol=1e-4)
    assert found["torch"].std() > 0.01
