"""What is set up before a Ray starts on this machine."""

import os
import threading
from contextlib import ExitStack

import pytest

from btc_ray import cluster


@pytest.mark.parametrize(("chosen", "then"), [(None, "16"), ("3", "3")], ids=["unset", "set by the user"])
def test_idle_processes_are_kept_unless_the_user_says_how_many(
    chosen: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "RAY_num_workers_soft_limit"
    monkeypatch.setenv(name, "")  # so that what the test sets is taken back
    monkeypatch.delenv(name)
    if chosen is not None:
        monkeypatch.setenv(name, chosen)
    cluster.keep_idle_processes(4)
    assert os.environ[name] == then


@pytest.mark.ray
def test_a_ray_of_ones_own_stops_while_the_caller_goes_on_and_is_waited_for() -> None:
    import ray

    for cpus in (2, 3):
        with ExitStack() as stops:
            with cluster.joined("local", cpus=cpus, stops=stops):
                assert ray.cluster_resources()["CPU"] == cpus
                assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()
            assert "stop Ray" in [thread.name for thread in threading.enumerate()]
        assert not ray.is_initialized()
