"""`btc-ray doctor --start-ray` runs a task on the Ray that a job would use."""

import pytest

from btc_ray import settings
from btc_ray.commands.doctor import machine
from btc_ray.workers.session import ray_session


@pytest.mark.ray
def test_ray_is_tried_where_asked(ray_here: None) -> None:
    (check,) = machine.ray(ray_session(settings.Doctor(start_ray=True)))
    assert check.state == "ok", check.detail
    assert "a task was run" in check.detail
