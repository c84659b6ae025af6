"""A pool that finds no room says so and waits; one that finds more room takes it."""

import threading
import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.ray


def _while_waiting(wait: Callable[[], None], then: Callable[[], None], seconds: float) -> bool:
    """Whether `wait` was still waiting when `then` was called after so many seconds, and ended afterwards."""
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(seconds)
    waited = thread.is_alive()
    then()
    thread.join(timeout=30)
    return waited and not thread.is_alive()


def test_a_busy_cluster_says_so_and_is_waited_for(ray_here: None, capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    from btc_ray.pool import wait_for_room

    @ray.remote(num_cpus=2)
    class Other:
        def ready(self) -> None: ...

    other = Other.remote()
    ray.get(other.ready.remote())
    while ray.available_resources().get("CPU", 0) > 0:  # Ray tells of it a moment later
        time.sleep(0.1)
    assert _while_waiting(lambda: wait_for_room({"CPU": 1}, quiet_s=0.5), lambda: ray.kill(other), seconds=2.5)
    assert "All 2 CPUs of this Ray are in use by other jobs" in capsys.readouterr().err


def test_what_a_single_machine_does_not_offer_is_refused_at_once(ray_here: None) -> None:
    from btc_ray.pool import Pool, PoolError, wait_for_room

    with pytest.raises(PoolError, match="offers 0 GPUs for work, 1 are needed"):
        wait_for_room({"GPU": 1})
    assert Pool.of_cluster(use_gpus=True).gpus == 0
