"""`btc-ray info --register`: a complete run in an Iceberg table once and only once, in a real catalogue."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from btc_ray.cli import main
from btc_ray.commands import register
from btc_ray.scoring.earlier import EarlierRun, find_runs
from btc_ray.scoring.folder import RunFolder
from btc_ray.settings import Info
from btc_ray.settings.job import SettingsError
from tests.scores import row, write_run

pytest.importorskip("pyiceberg", reason="needs pyiceberg")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_run(str(folder / "1"), [row("/a/1.png", "glioma"), row("/a/2.png")], [row("/a/3.png", None)], inputs=["/1"])
    write_run(str(folder / "2"), [row("/a/4.png", surround=None)], inputs=["/2"])
    return folder


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return ["--register", "brain.scores", "--warehouse", str(tmp_path / "warehouse")]


def table(flags: list[str]) -> Any:
    return register.open_catalog(Info(path="-", register="brain.scores", warehouse=flags[3])).load_table("brain.scores")


def uris(flags: list[str]) -> list[tuple[str, str]]:
    found = table(flags).scan().to_arrow()
    return sorted(
        (uri, run.rpartition("/")[2]) for uri, run in zip(*(found[name].to_pylist() for name in ("uri", "run")), strict=True)
    )


BOTH = [("/a/1.png", "1"), ("/a/2.png", "1"), ("/a/3.png", "1"), ("/a/4.png", "2")]


def test_the_same_runs_sent_twice_change_nothing(runs: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(runs / "1"), *flags]) == 0
    assert main(["info", "--runs", f"{runs}/*", *flags]) == 0
    out = capsys.readouterr().out
    assert f"{runs}/1: registered" in out
    assert f"{runs}/1: nothing to do" in out
    snapshots = [snapshot.snapshot_id for snapshot in table(flags).snapshots()]
    assert main(["info", "--runs", f"{runs}/*", *flags]) == 0
    assert uris(flags) == BOTH
    assert [snapshot.snapshot_id for snapshot in table(flags).snapshots()] == snapshots
    assert len(snapshots) == 2
    assert "surround" in table(flags).scan().to_arrow().column_names  # a column that the first run did not have


def test_what_ends_between_leaves_the_table_as_it_was_and_the_same_command_goes_on(runs: Path, flags: list[str]) -> None:
    part = runs / "1/scores/part-00001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:50])
    assert main(["info", "--runs", f"{runs}/*", *flags]) == 1  # the first part was read by then
    assert table(flags).scan().to_arrow().num_rows == 0
    part.write_bytes(whole)
    assert main(["info", "--runs", f"{runs}/*", *flags]) == 0
    assert uris(flags) == BOTH


def test_two_that_register_one_run_at_once_give_its_rows_once(
    runs: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = find_runs([str(runs / "1")], {}, flag="--runs").runs
    catalogs = [register.open_catalog(Info(path="-", register="brain.scores", warehouse=flags[3])) for _ in range(2)]
    read = register._batches

    def meanwhile(run: EarlierRun, schema: pa.Schema) -> Any:
        monkeypatch.setattr(register, "_batches", read)
        assert register.register(run, "brain.scores", catalogs[1])  # another does it while this one reads
        yield from read(run, schema)

    monkeypatch.setattr(register, "_batches", meanwhile)
    assert not register.register(run, "brain.scores", catalogs[0])
    assert uris(flags) == BOTH[:3]


def test_rows_of_before_a_retry_are_replaced(runs: Path, flags: list[str]) -> None:
    assert main(["info", str(runs / "1"), *flags]) == 0
    (RunFolder(find_runs([str(runs / "1")], {}, flag="--runs").runs[0].place).scores / "part-00001.parquet").write_table(
        pa.Table.from_pylist([{"row_id": 2} | row("/a/3.png", "glioma")])
    )
    state = json.loads((runs / "1/run.json").read_text())
    (runs / "1/run.json").write_text(json.dumps(state | {"finished": "2026-01-02T00:00:00+00:00"}))
    assert main(["info", str(runs / "1"), *flags]) == 0
    assert uris(flags) == BOTH[:3]
    assert table(flags).scan(row_filter="uri == '/a/3.png'").to_arrow()["label"].to_pylist() == ["glioma"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"register": "brain.scores"}, "needs --warehouse"),
        ({"register": "scores", "warehouse": "w"}, r"takes NAMESPACE\.TABLE"),
        ({"warehouse": "w"}, "are those of --register"),
        ({"register": "brain.scores", "catalog": ("uri",)}, "KEY=VALUE"),
    ],
)
def test_flags_that_name_no_table_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Info(path="run", **given)
