"""What is set up before a Ray starts on this machine."""

import math
import os
from pathlib import Path

import pytest

from btc_ray.workers import session


@pytest.mark.parametrize(("chosen", "then"), [(None, "16"), ("3", "3")], ids=["unset", "set by the user"])
def test_idle_processes_are_kept_unless_the_user_says_how_many(
    chosen: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "RAY_num_workers_soft_limit"
    monkeypatch.setenv(name, "")  # so that what the test sets is taken back
    monkeypatch.delenv(name)
    if chosen is not None:
        monkeypatch.setenv(name, chosen)
    session.keep_idle_processes(4)
    assert os.environ[name] == then


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000\n"}, 1.0),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": "odd"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_quota_of_a_container_is_read(files: dict[str, str], cores: float, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert session._quota(tmp_path) == cores


@pytest.mark.parametrize(("flag", "source"), [(None, "RAY_ADDRESS"), ("127.0.0.1:9", "--address")])
def test_a_cluster_that_is_gone_is_told_at_once(flag: str | None, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(session.ClusterError, match=f"nothing answers at 127.0.0.1:9.*{source}"), session.joined(flag):
        raise AssertionError("joined")


@pytest.mark.parametrize(("folder", "moved"), [("/tmp", False), ("/scratch/" + "x" * 60, True)])
def test_ray_works_in_a_folder_short_enough_for_its_sockets(folder: str, moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    assert session._short_folder() == ({"_temp_dir": "/tmp/ray"} if moved else {})


def test_a_ray_that_does_not_start_in_time_is_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def late(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(session.ClusterError, match="run the command again once it is less so"), session.joined(None):
        pass


def test_a_ray_that_is_late_is_started_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    tries = []

    def late_once(*_: object, **__: object) -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", late_once)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with session.joined(None):
        assert tries == [0, 1]
    assert "trying again" in capsys.readouterr().err


def test_what_ray_does_not_raise_of_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def broken(*_: object, **__: object) -> None:
        raise AttributeError("a fault of ours")

    monkeypatch.setattr(ray, "init", broken)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(AttributeError, match="a fault of ours"), session.joined(None):
        pass
