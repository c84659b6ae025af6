"""What is set up before a Ray starts on this machine."""

import os

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
