"""Staged rows and the manifest become files of scores: every row once, in order, whatever a killed process left."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.scoring import finish
from btc_ray.scoring.folder import RunFolder
from btc_ray.storage import Place

SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("status", "label", "crop_status", "decision")),
    ],
    metadata={"model_id": "m"},
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of 10 rows, whose manifest has parts of 4 and whose scores have files of 3."""
    monkeypatch.setattr(finish, "ROWS_PER_FILE", 3)
    folder = RunFolder(Place(str(tmp_path / "run")))
    for start in range(0, 10, 4):
        rows = range(start, min(start + 4, 10))
        part = pa.table({"row_id": rows, "uri": [f"{row}.jpg" for row in rows]})
        (folder.manifest / f"part-{start // 4:05d}.parquet").write_table(part)
    return folder


def stage(folder: RunFolder, name: str, rows: list[int], label: str) -> Place:
    columns = {name: ["ok"] * len(rows) for name in ("status", "crop_status", "decision")}
    columns |= {"row_id": rows, "uri": [f"{row}.jpg" for row in rows], "label": [label] * len(rows)}
    (folder.staged_here / name).write_table(pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA))
    return folder.staged_here / name


def test_rows_come_out_once_in_order_and_the_earlier_source_wins(folder: RunFolder) -> None:
    sources = [
        stage(folder, "b.parquet", [9, 2, 7, 0], "first"),
        stage(folder, "a.parquet", [1, 2, 3, 4, 5, 6, 7, 8], "second"),
    ]
    names, counts = finish.write_finished(folder, SCHEMA, sources, generation=0)
    assert names == [f"part-{number:05d}.parquet" for number in range(4)]
    tables = [pq.read_table((folder.finished / name).path()) for name in names]
    assert [table["row_id"].to_pylist() for table in tables] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    labels = [label for table in tables for label in table["label"].to_pylist()]
    assert [row for row, label in enumerate(labels) if label == "first"] == [0, 2, 7, 9]
    assert (counts.rows, counts.status, counts.label) == (10, {"ok": 10}, {"second": 6, "first": 4})
    assert tables[0].schema.metadata == {b"model_id": b"m"}


def test_rows_without_a_result_are_counted_over_all_files_and_the_first_is_named(folder: RunFolder) -> None:
    half = folder.staged_here / "half.parquet"
    half.write(stage(folder, "whole.parquet", [3, 8], "x").read()[:-20])  # a process was killed while it wrote
    sources = [stage(folder, "a.parquet", [0, 1, 2, 4, 5, 6, 7, 9], "x"), half]
    assert finish.staged_ids(sources).tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
    with pytest.raises(finish.IncompleteError, match=r"2 of 10 rows have no result, the first is row 3 \(3\.jpg\)"):
        finish.write_finished(folder, SCHEMA, sources, generation=0)


def test_results_of_other_images_are_refused(folder: RunFolder) -> None:
    source = stage(folder, "a.parquet", list(range(10)), "x")
    table = source.read_table()
    source.write_table(table.set_column(1, table.schema.field("uri"), pa.array([f"{row}.png" for row in range(10)])))
    with pytest.raises(finish.IncompleteError, match="other images"):
        finish.write_finished(folder, SCHEMA, [source], generation=0)


def test_a_run_without_rows_has_one_file_with_the_columns(tmp_path: Path) -> None:
    folder = RunFolder(Place(str(tmp_path / "run")))
    names, counts = finish.write_finished(folder, SCHEMA, [], generation=0)
    assert (names, counts.rows) == (["part-00000.parquet"], 0)
    assert pq.read_table((folder.finished / names[0]).path()).schema.equals(SCHEMA)
