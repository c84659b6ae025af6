"""A pool that finds no room says so and waits; one that finds more room takes it."""

import threading
import time

import pytest

pytestmark = pytest.mark.ray


def test_a_busy_cluster_says_so_and_is_waited_for(ray_here: None, capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    from btc_ray.workers.pool import wait_for_room

    @ray.remote(num_cpus=2)
    class Other:
        def ready(self) -> None: ...

    other = Other.remote()
    ray.get(other.ready.remote())
    while ray.available_resources().get("CPU", 0) > 0:  # Ray tells of it a moment later
        time.sleep(0.05)
    waiting = threading.Thread(target=wait_for_room, args=({"CPU": 1},), kwargs={"quiet_s": 0.2}, daemon=True)
    waiting.start()
    said, deadline = "", time.monotonic() + 60
    while "All 2 CPUs of this Ray are in use by other jobs" not in said and time.monotonic() < deadline:
        time.sleep(0.05)
        said += capsys.readouterr().err
    assert "All 2 CPUs of this Ray are in use by other jobs" in said
    assert waiting.is_alive()
    ray.kill(other)
    waiting.join(timeout=60)
    assert not waiting.is_alive()


def test_what_a_single_machine_does_not_offer_is_refused_at_once(ray_here: None) -> None:
    from btc_ray.workers.pool import Pool, PoolError, wait_for_room

    with pytest.raises(PoolError, match="offers 0 GPUs for work, 1 are needed"):
        wait_for_room({"GPU": 1})
    assert Pool.of_cluster(use_gpus=True).gpus == 0
