"""A run that stopped, was killed, or lost a file in between goes on, and its table is that of an undisturbed one."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray.scoring import finish, local
from btc_ray.storage import Place
from tests.scoring.runs import rows, score, start, state


@contextmanager
def stopped_with(what: str) -> Iterator[None]:
    """Ctrl-C comes when the last of what a run writes stands in this folder of it: rows that are staged, files that are finished, or the
    first file of scores."""
    real = Place.move

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def move(self: Place, target: Place) -> None:
        if "finished" not in self.uri:  # as what was listed becomes the manifest
            return real(self, target)
        if what == "scores":
            real(self, target)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if what == "_work/staged-here":
            patch.setattr(finish, "write_finished", stop)
        else:
            patch.setattr(Place, "move", move)
        yield


@pytest.mark.parametrize("stops_after", [1, 2, 3])
def test_a_run_that_stops_continues_with_the_rows_that_are_missing(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_after: int
) -> None:
    score(model, [archive], tmp_path / "whole", "--batch-size", "4")
    monkeypatch.setattr(local, "STAGE_EVERY_S", 0.0)
    staged: list[int] = []
    real = local._stage

    def stage_then_stop(folder: object, tables: list[object]) -> None:
        real(folder, tables)  # type: ignore[arg-type]
        staged.append(sum(len(table) for table in tables))  # type: ignore[arg-type]
        if len(staged) == stops_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(local, "_stage", stage_then_stop)
    assert score(model, [archive], tmp_path / "run", "--batch-size", "4") == 130
    assert state(tmp_path / "run")["complete"] is False
    assert not (tmp_path / "run" / "scores").exists()
    monkeypatch.setattr(local, "_stage", real)
    assert score(model, [archive], tmp_path / "run", "--batch-size", "4") == 0
    assert rows(tmp_path / "run").equals(rows(tmp_path / "whole"))
    assert state(tmp_path / "run")["sessions"][-1]["images"] == 21 - sum(staged)


def test_a_run_that_stops_while_publishing_ends_the_same(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(finish, "ROWS_PER_FILE", 1)
    score(model, [archive], tmp_path / "whole")
    with stopped_with("scores"):
        assert score(model, [archive], tmp_path / "run") == 130
    assert len(list((tmp_path / "run" / "scores").glob("*.parquet"))) == 1
    assert score(model, [archive], tmp_path / "run") == 0
    assert rows(tmp_path / "run").equals(rows(tmp_path / "whole"))


def _lose(part: Path) -> None:
    part.unlink()


def _cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:100])


def _empty(part: Path) -> None:
    part.write_bytes(b"")


@pytest.mark.parametrize("harm", [_lose, _cut, _empty])
@pytest.mark.parametrize("what", ["_work/staged-here", "_work/finished", "scores"])
def test_a_part_that_is_lost_or_cut_before_a_continuation_costs_no_row(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, harm: Callable[[Path], None]
) -> None:
    """Staged parts are scored again; those that were about to be published, or are half published, are written again."""
    monkeypatch.setattr(local, "STAGE_EVERY_S", 0.0)
    flags = ("--engine", "torch", "--batch-size", "4")
    score(model, [archive], tmp_path / "whole", *flags)
    with stopped_with(what):
        assert score(model, [archive], tmp_path / "run", *flags) == 130
    parts = sorted((tmp_path / "run" / what).glob("*.parquet"))
    harm(parts[-1])
    assert score(model, [archive], tmp_path / "run", *flags) == 0
    assert rows(tmp_path / "run").equals(rows(tmp_path / "whole"))


def test_a_clock_that_goes_back_between_two_attempts_changes_nothing(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the first attempt wrote is then of next year."""
    monkeypatch.setattr(local, "STAGE_EVERY_S", 0.0)
    score(model, [archive], tmp_path / "whole", "--batch-size", "4")
    with pytest.MonkeyPatch.context() as patch:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(finish, "write_finished", stop)
        assert score(model, [archive], tmp_path / "run", "--batch-size", "4") == 130
    next_year = time.time() + 365 * 86_400
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (next_year, next_year))
    assert score(model, [archive], tmp_path / "run", "--batch-size", "4") == 0
    assert rows(tmp_path / "run").equals(rows(tmp_path / "whole"))
    assert state(tmp_path / "run")["sessions"][-1]["images"] == 0


def test_a_run_goes_on_with_the_engine_it_was_begun_with(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local._in_order
    monkeypatch.setattr(local, "_in_order", lambda *arguments, **named: itertools.islice(real(*arguments, **named), 1))
    assert score(model, [archive], tmp_path / "run", "--engine", "torch", "--precision", "fp32", "--batch-size", "4") == 1
    monkeypatch.setattr(local, "_in_order", real)
    assert score(model, [archive], tmp_path / "run") == 0  # auto: whatever it stands for here, the run is torch's
    fingerprint = state(tmp_path / "run")["fingerprint"]
    assert (fingerprint["engine"], fingerprint["precision"]) == ("torch", "fp32")
    assert score(model, [archive], tmp_path / "whole", "--engine", "torch", "--precision", "fp32", "--batch-size", "4") == 0
    assert rows(tmp_path / "run")["confidence"].round(5).equals(rows(tmp_path / "whole")["confidence"].round(5))


@pytest.mark.slow
def test_sigterm_saves_what_is_done_says_how_to_go_on_and_leaves_no_process(model: Path, phantoms: Path, tmp_path: Path) -> None:
    many = tmp_path / "in"
    many.mkdir()
    sources = sorted(path for path in phantoms.rglob("*") if path.is_file())
    for number in range(3000):
        os.link(sources[number % len(sources)], many / f"{number:05d}{sources[number % len(sources)].suffix}")
    process = start(model, [many], tmp_path / "run", "--local-rows", "10000", log=tmp_path / "log")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run" / "manifest").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    program = psutil.Process(process.pid)
    worked = sum(program.cpu_times()[:2])
    while sum(program.cpu_times()[:2]) < worked + 3 and time.monotonic() < deadline:  # of the processor: the machine may be busy
        time.sleep(0.02)
    family = program.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130, (tmp_path / "log").read_text()
    assert "Terminated. Running the same command again continues" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not psutil.wait_procs(family, timeout=10)[1]
    staged = [pq.ParquetFile(part).metadata.num_rows for part in (tmp_path / "run" / "_work" / "staged-here").glob("*.parquet")]
    assert 0 < sum(staged) < 3000
    (tmp_path / "run" / ".run.json.0123456789ab.tmp").write_text("{")  # of writers that were killed
    (tmp_path / "run" / ".manifest.0123456789ab.tmp").mkdir()
    (tmp_path / "run" / ".manifest.0123456789ab.tmp" / "part-00000.parquet").write_bytes(b"PAR1")
    assert score(model, [many], tmp_path / "run", "--local-rows", "10000") == 0
    assert rows(tmp_path / "run")["row_id"].tolist() == list(range(3000))
    assert not list((tmp_path / "run").glob(".*"))


def test_a_kill_while_the_first_state_is_written_does_not_lock_the_folder(model: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "_work").mkdir(parents=True)
    (tmp_path / "run" / ".run.json.abc123.tmp").write_text("{")
    assert score(model, [archive], tmp_path / "run") == 0
