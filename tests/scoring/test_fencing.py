"""Two drivers and one run folder on S3: one writes, and what the other does late is not taken."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btc_ray.cli import main
from btc_ray.errors import COMPLETE, INTERRUPTED, REFUSED, RefusedError
from btc_ray.scoring import lease, local
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.lease import LeaseLostError
from btc_ray.scoring.state import Fingerprint, RunState
from btc_ray.storage import Place
from tests.conftest import Bucket
from tests.scoring.runs import start

pytestmark = pytest.mark.slow

LEASE_S = 1.0
STATE = RunState(fingerprint=Fingerprint(inputs=[], model_id="m", preprocess_id="p"))


@pytest.fixture
def run(bucket: Bucket) -> Place:
    return Place(f"{bucket.uri}/run", bucket.options)


@pytest.fixture
def flags(bucket: Bucket) -> list[str]:
    return ["--lease", str(LEASE_S), "--storage-options", *(f"{name}={value}" for name, value in bucket.options.items())]


@pytest.fixture
def asleep(run: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A driver that holds the folder and renews nothing, as if it were stopped."""
    monkeypatch.setattr(lease, "_RENEWALS", LEASE_S / 3600)  # an hour apart
    folder = RunFolder(run)
    with folder.locked(lease_s=LEASE_S):
        folder.write_state(STATE)
        monkeypatch.undo()
        yield folder


def test_who_took_over_writes_and_who_slept_does_not(run: Place, asleep: RunFolder) -> None:
    (asleep.staged_here / "part-0.parquet").write(b"in time")
    awake = RunFolder(run)
    with awake.locked(lease_s=LEASE_S):
        state = awake.read_state()
        assert state is not None
        inherited = awake.inherited(state)
        assert [part.read() for part in inherited] == [b"in time"]
        awake.write_state(state)
        (asleep.staged_here / "part-1.parquet").write(b"late")  # a worker that nobody told
        assert asleep.staged_here.uri != awake.staged_here.uri
        asleep._lease._renewed_at = float("inf")  # type: ignore[union-attr] — a clock that stood still does not help it
        with pytest.raises(LeaseLostError, match="taken over by another btc-ray"):
            asleep.write_state(STATE.changed(complete=True))
        with pytest.raises(LeaseLostError):
            asleep.publish(["part-00000.parquet"])
        assert awake.write_state(state.changed(complete=True)).attempt == 2


def test_a_retry_takes_nothing_that_was_staged_before_it(run: Place) -> None:
    first = RunFolder(run)
    with first.locked(lease_s=LEASE_S):
        first.write_state(STATE.changed(complete=True))
        (first.staged_here / "part-0.parquet").write(b"late")
    second = RunFolder(run)
    with second.locked(lease_s=LEASE_S):
        assert second.inherited(STATE.changed(since_attempt=second.attempt)) == []


def test_no_lease_is_left_in_a_folder_that_is_no_run(run: Place) -> None:
    (run / "mine.txt").write(b"x")
    with pytest.raises(RefusedError, match=r"it holds mine\.txt"), RunFolder(run).locked(lease_s=LEASE_S):
        pass
    assert [file.name for file in run.files()] == ["mine.txt"]


def test_the_next_attempt_goes_on_with_what_the_last_one_staged(
    model: Path, archive: Path, run: Place, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["score", "--model", str(model), "--input", str(archive), "--output", run.uri, "--batch-size", "4", *flags]
    monkeypatch.setattr(local, "STAGE_EVERY_S", 0.0)
    real = local._stage

    def stage_then_stop(folder: Any, tables: Any) -> None:
        real(folder, tables)
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_stage", stage_then_stop)
    assert main(command) == INTERRUPTED
    monkeypatch.setattr(local, "_stage", real)
    assert main(command) == COMPLETE
    state = json.loads((run / "run.json").read())
    assert state["attempt"] == 2
    assert state["sessions"][-1]["images"] < 21
    (part,) = (run / "scores").files(".parquet")
    assert part.read_table()["row_id"].to_pylist() == list(range(21))
    fs, path = (run / "_work").filesystem()
    assert not fs.exists(path)


def test_a_stopped_driver_that_wakes_after_another_finished_changes_nothing(
    model: Path, archive: Path, run: Place, flags: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    stopped = start(model, [archive], run.uri, *flags, log=log)  # type: ignore[arg-type]
    try:
        while not (run / "run.json").exists():
            assert stopped.poll() is None, log.read_text()
            time.sleep(0.05)
        os.kill(stopped.pid, signal.SIGSTOP)
        assert not json.loads((run / "run.json").read())["complete"]
        command = ["score", "--model", str(model), "--input", str(archive), "--output", run.uri, *flags]
        assert main(command) == COMPLETE
        assert "taking over" in capfd.readouterr().err
        after = _versions(run)
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.wait(60) == REFUSED, log.read_text()
        assert "was taken over by another btc-ray" in log.read_text()
        assert _versions(run) == after
        assert json.loads((run / "run.json").read())["attempt"] == 2
    finally:
        stopped.kill()


def _versions(run: Place) -> dict[str, Any]:
    """ETag and time of everything but the lease and the work."""
    fs, path = run.filesystem()
    found = fs.find(path, detail=True)
    return {
        name: (info["ETag"], info["LastModified"]) for name, info in found.items() if "_work" not in name and "lease" not in name
    }
