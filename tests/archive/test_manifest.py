"""The frozen list: numbered rows in parts, the skipped beside them, a summary, and nothing half-written."""

import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray.archive.entries import ArchiveError
from btc_ray.archive.manifest import SCHEMA, ManifestSummary, ReasonCount
from btc_ray.archive.reader import ByteReader
from btc_ray.storage import Place
from tests.archive.samples import summarise, tar_bytes, write, write_manifest, zip_bytes


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    members = [("a.jpg", b"aa"), ("../b.jpg", b"b"), ("c.csv", b"c")]
    files = {f"{number:02d}.jpg": b"x" * number for number in range(10)}
    return write(
        tmp_path / "in", {**files, "x.zip": zip_bytes(members), "y.tar": tar_bytes(members), "z.zip": b"broken", "n.csv": b""}
    )


def written(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def test_rows_are_numbered_through_the_parts(tmp_path: Path, inputs: Path) -> None:
    summary = write_manifest(
        [str(inputs)],
        Place(str(tmp_path / "run/manifest")),
        skipped=Place(str(tmp_path / "run/skipped.parquet")),
        rows_per_part=4,
    )
    parts = written(tmp_path / "run/manifest")
    assert [part.name for part in parts] == [f"part-{number:05d}.parquet" for number in range(4)]
    tables = [pq.read_table(part) for part in parts]
    assert all(table.schema.equals(SCHEMA) for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["row_id"] for row in rows] == list(range(15))
    assert [ByteReader().read(row) for row in rows if row["problem_status"] is None] == [
        b"x" * number for number in range(10)
    ] + [b"aa", b"aa"]
    assert pq.read_table(tmp_path / "run/skipped.parquet").to_pylist() == [
        {"uri": f"{inputs}/n.csv", "reason": "not an image (.csv)"},
        {"uri": f"{inputs}/x.zip::c.csv", "reason": "not an image (.csv)"},
        {"uri": f"{inputs}/y.tar::c.csv", "reason": "not an image (.csv)"},
    ]
    assert summary == ManifestSummary(
        rows=15,
        size=45 + 2 * 3 + 6,
        unknown_sizes=0,
        parts=4,
        problems={
            "unsupported: member name leaves the archive": ReasonCount(
                count=2, examples=(f"{inputs}/x.zip::../b.jpg", f"{inputs}/y.tar::../b.jpg")
            ),
            next(key for key in summary.problems if key.startswith("unreadable: ")): ReasonCount(
                count=1, examples=(f"{inputs}/z.zip",)
            ),
        },
        skipped={
            "not an image (.csv)": ReasonCount(
                count=3, examples=(f"{inputs}/n.csv", f"{inputs}/x.zip::c.csv", f"{inputs}/y.tar::c.csv")
            )
        },
        formats={".jpg": 14, ".zip": 1},
        fingerprint=summary.fingerprint,
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["manifest", "skipped.parquet"]


def test_the_fingerprint_changes_with_a_name_a_size_and_the_order(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"x"})
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    seen = {summarise(folders).fingerprint, summarise(folders[::-1]).fingerprint}
    write(tmp_path, {"b/1.jpg": b"xx"})
    seen.add(summarise(folders).fingerprint)
    (tmp_path / "b/1.jpg").rename(tmp_path / "b/2.jpg")
    seen.add(summarise(folders).fingerprint)
    assert len(seen) == 4
    assert summarise(folders, threads=1).fingerprint in seen


def test_a_listing_that_fails_leaves_the_destination_as_it_was(tmp_path: Path, inputs: Path) -> None:
    write_manifest([str(inputs)], Place(str(tmp_path / "m")), rows_per_part=2)
    before = {part.name: part.read_bytes() for part in written(tmp_path / "m")}
    with pytest.raises(ArchiveError):
        write_manifest(
            [str(inputs / "*.jpg"), str(inputs / "*.none")],
            Place(str(tmp_path / "m")),
            skipped=Place(str(tmp_path / "s.parquet")),
            rows_per_part=1,
        )
    assert {part.name: part.read_bytes() for part in written(tmp_path / "m")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m"]


def test_an_earlier_manifest_is_replaced_whole_and_nothing_else_ever_is(tmp_path: Path, inputs: Path) -> None:
    write_manifest([str(inputs)], Place(str(tmp_path / "m")), rows_per_part=1)
    write_manifest([str(inputs)], Place(str(tmp_path / "m")), rows_per_part=10)
    assert len(written(tmp_path / "m")) == 2
    with pytest.raises(ArchiveError, match="something else than a manifest"):
        write_manifest([str(inputs)], Place(str(inputs)))


def test_examples_and_reasons_stay_bounded(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"x", **{f"{n}.csv": b"" for n in range(50)}, **{f"x.e{n}": b"" for n in range(300)}})
    skipped = summarise([str(tmp_path)]).skipped
    assert (skipped["not an image (.csv)"].count, len(skipped["not an image (.csv)"].examples)) == (50, 20)
    assert len(skipped) <= 201
    assert sum(tally.count for tally in skipped.values()) == 350


@pytest.mark.slow
def test_fifty_thousand_entries_are_listed_in_bounded_memory(tmp_path: Path) -> None:
    archive = zip_bytes([(f"{member}.jpg", b"") for member in range(1000)], compression=0)
    write(tmp_path / "in", {f"{number:02d}/x.zip": archive for number in range(50)})
    tracemalloc.start()
    summary = write_manifest([str(tmp_path / "in")], Place(str(tmp_path / "m")), rows_per_part=5_000, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.rows == 50_000
    assert peak < 5_000_000  # bytes; all 50,000 entries at once are 11.6 MB


def test_the_real_images_are_listed_and_read(real_images: Path) -> None:
    summary = summarise([str(real_images / "Testing")])
    assert (summary.rows, summary.problems, summary.formats) == (1311, {}, {".jpg": 1311})
