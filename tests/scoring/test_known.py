"""What earlier runs scored is known: by its place and version without being read, or by its content wherever it stands."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.archive.listing import list_inputs
from btc_ray.scoring.earlier import EarlierRunError, find_runs
from btc_ray.scoring.known import KnownImages, listing_keys
from btc_ray.storage import Place
from tests.archive.samples import jpeg, write, zip_bytes
from tests.scoring.runs import rows, score, state


def test_a_digest_is_found_with_the_run_that_it_came_from() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, (1000, 2), dtype=np.uint64)
    known = KnownImages(keys[:900], np.arange(900, dtype=np.int32) // 300)
    assert known.find(keys).tolist() == [0] * 300 + [1] * 300 + [2] * 300 + [-1] * 100
    assert KnownImages(keys[:0], np.empty(0, np.int32)).find(keys[:2]).tolist() == [-1, -1]


def test_half_a_digest_is_not_enough() -> None:
    keys = np.array([[7, 1], [7, 2]], np.uint64)
    known = KnownImages(keys[:1], np.zeros(1, np.int32))
    assert known.find(keys).tolist() == [0, -1]


def test_place_offset_and_version_tell_images_apart() -> None:
    several = [("a.zip::x.jpg", 0, "9-1"), ("a.zip::x.jpg", 80, "9-1"), ("a.zip::x.jpg", 0, "9-2"), ("b.zip::x.jpg", 0, "9-1")]
    assert len(np.unique(listing_keys(*zip(*several, strict=True)), axis=0)) == 4


def test_a_member_has_the_version_of_its_archive(tmp_path: Path) -> None:
    write(tmp_path, {"m.zip": zip_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))])})
    stat = (tmp_path / "m.zip").stat()
    for inputs in ([str(tmp_path)], [f"{tmp_path}/m.zip::a.jpg"]):
        assert {entry.version for entry in list_inputs(inputs)} == {f"{stat.st_size}-{stat.st_mtime_ns}"}


def test_a_second_night_scores_what_is_new_and_says_what_was_known(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "runs" / "1") == 0
    shutil.copy(archive / "notumor" / sorted(p.name for p in (archive / "notumor").iterdir())[0], archive / "new.png")
    assert score(model, [archive], tmp_path / "runs" / "2", "--known", f"{tmp_path}/runs/*") == 0
    found = rows(tmp_path / "runs" / "2")
    assert found["uri"].tolist() == [
        str(archive / "glioma" / "broken.jpg"),
        str(archive / "new.png"),
    ]  # what was not ok is tried again
    said = state(tmp_path / "runs" / "2")["known"]
    assert said["files"] == 20
    assert said["runs"] == {str(tmp_path / "runs" / "1"): 20}
    assert len(pq.read_table(tmp_path / "runs" / "2" / "known.parquet")) == 20
    assert "20 files, scored by 1 earlier runs" in (tmp_path / "runs" / "2" / "summary.html").read_text()


def test_a_night_without_anything_new_is_complete_and_empty(model: Path, archive: Path, tmp_path: Path) -> None:
    (archive / "glioma" / "broken.jpg").unlink()
    assert score(model, [archive], tmp_path / "1") == 0
    assert score(model, [archive], tmp_path / "2", "--known", str(tmp_path / "1")) == 0
    assert state(tmp_path / "2")["complete"] is True
    empty, full = (pq.read_table(tmp_path / night / "scores") for night in ("2", "1"))
    assert len(empty) == 0
    assert empty.schema.equals(full.schema)
    assert "Nothing new: 20 files" in (tmp_path / "2" / "summary.html").read_text()
    assert score(model, [archive], tmp_path / "2", "--known", str(tmp_path / "1")) == 0  # complete already


def test_a_changed_archive_is_scored_again_and_an_untouched_one_is_not(model: Path, archive: Path, tmp_path: Path) -> None:
    images = [(path.name, path.read_bytes()) for path in sorted((archive / "notumor").iterdir())]
    inputs = write(tmp_path / "in", {"a.zip": zip_bytes(images[:2]), "b.zip": zip_bytes(images[2:4])})
    score(model, [inputs], tmp_path / "1")
    write(inputs, {"b.zip": zip_bytes(images[2:5])})
    score(model, [inputs], tmp_path / "2", "--known", str(tmp_path / "1"))
    assert rows(tmp_path / "2")["uri"].tolist() == [f"{inputs}/b.zip::{name}" for name, _ in images[2:5]]


def test_a_moved_image_is_known_by_its_content_alone(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "1")
    archive.rename(tmp_path / "moved")
    for by, known in (("listing", 0), ("content", 20)):
        assert score(model, [tmp_path / "moved"], tmp_path / by, "--known", str(tmp_path / "1"), "--known-by", by) == 0
        assert state(tmp_path / by)["known"]["files"] == known
    assert rows(tmp_path / "content")["uri"].tolist() == [str(tmp_path / "moved" / "glioma" / "broken.jpg")]


def test_another_models_rows_are_not_known(
    model: Path, other_model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    score(other_model, [archive], tmp_path / "1")
    score(model, [archive], tmp_path / "2", "--known", str(tmp_path / "1"))
    assert len(rows(tmp_path / "2")) == 21
    assert "1 of the runs of --known is not used: another model" in capfd.readouterr().err


def test_a_run_of_before_there_were_versions_is_told_and_not_known(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    score(model, [archive], tmp_path / "1")
    part = tmp_path / "1" / "manifest" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns("version"), part)
    score(model, [archive], tmp_path / "2", "--known", str(tmp_path / "1"))
    assert state(tmp_path / "2")["known"]["files"] == 0
    assert "their manifest has no versions" in capfd.readouterr().err


def test_a_dry_run_tells_what_is_known_and_writes_nothing(
    model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(model, [archive], tmp_path / "1")
    capsys.readouterr()
    assert score(model, [archive], tmp_path / "2", "--known", str(tmp_path / "1"), "--dry-run") == 0
    said = capsys.readouterr().out
    assert "20 files are known" in said
    assert said.splitlines()[1].startswith("1 images")
    assert not (tmp_path / "2").exists()


def test_a_glob_that_meets_no_run_is_a_first_night_and_a_misspelt_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert find_runs([f"{tmp_path}/*"], {}, flag="--known").runs == []
    with pytest.raises(EarlierRunError, match=r"--known .*/nights is no run folder"):
        find_runs([f"{tmp_path}/nights"], {}, flag="--known")


def test_a_run_that_is_not_complete_gives_nothing(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "1")
    file = tmp_path / "1" / "run.json"
    file.write_text(file.read_text().replace('"complete": true', '"complete": false'))
    earlier = find_runs([f"{tmp_path}/1", f"{tmp_path}/*"], {}, flag="--known")
    assert earlier.runs == []
    assert earlier.left_out == {"not complete": [str(tmp_path / "1")]}


def test_a_file_with_a_slice_that_is_not_ok_is_not_known(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "1")
    part = tmp_path / "1" / "manifest" / "part-00000.parquet"
    table = pq.read_table(part)
    one, frames = f"{archive}/glioma/volume.nii", range(len(table))
    table = table.set_column(1, table.schema.field("uri"), pa.array([f"{one}#slice={frame}" for frame in frames]))
    at = table.schema.get_field_index("frame")
    table = table.set_column(at, table.schema.field("frame"), pa.array(frames, pa.int32()))
    at = table.schema.get_field_index("version")
    pq.write_table(table.set_column(at, table.schema.field("version"), pa.array(["1-1"] * len(table))), part)
    from btc_ray.scoring.known import open_known

    known = open_known(find_runs([str(tmp_path / "1")], {}, flag="--known"), by="listing")
    assert len(known.images) == 0  # 20 slices are ok and one is not


def test_globs_of_places_are_read_with_their_options() -> None:
    memory = Place("memory://nights-of-a-test/2026-01-01")
    (memory / "run.json").write(
        b'{"kind": "score", "complete": true, "fingerprint": {"inputs": [], "model_id": "m", "preprocess_id": "p"}}'
    )
    found = find_runs(["memory://nights-of-a-test/*"], {}, flag="--known")
    assert [run.state.fingerprint.model_id for run in found.runs] == ["m"]
