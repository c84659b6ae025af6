"""Labelled data in each of its forms becomes one table."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from btc_ray.archive.reader import ByteReader
from btc_ray.dataset.table import LabelledDataError, class_names, fingerprint, read_labelled
from btc_ray.storage import Place
from tests.archive.samples import tar_bytes, write, zip_bytes
from tests.conftest import CLASSES


def test_the_kaggle_layout_gives_labels_and_splits(phantoms: Path) -> None:
    table = read_labelled(Place(str(phantoms))).to_pandas()
    assert class_names(read_labelled(Place(str(phantoms)))) == CLASSES
    assert table.groupby(["split", "label"]).size().unique().tolist() == [5, 10] or set(
        table.groupby(["split", "label"]).size()
    ) == {5, 10}
    assert all(f"/{row.label}/" in row.uri for row in table.itertuples())


def test_class_folders_give_labels_and_no_split(phantoms: Path) -> None:
    table = read_labelled(Place(str(phantoms / "Testing")))
    assert class_names(table) == CLASSES
    assert set(table["split"].to_pylist()) == {None}


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_table_gives_what_it_names(tmp_path: Path, end: str) -> None:
    frame = pd.DataFrame(
        {
            "uri": ["a.jpg", "/b.jpg", "s3://x/c.jpg"],
            "label": ["x", "y", "y"],
            "split": ["train", "Testing", "test"],
            "group": [1, 1, 2],
        }
    )
    file = tmp_path / f"labels.{end}"
    frame.to_csv(file, index=False) if end == "csv" else frame.to_parquet(file)
    table = read_labelled(Place(str(file))).to_pandas()
    assert table["uri"].tolist() == [str(tmp_path / "a.jpg"), "/b.jpg", "s3://x/c.jpg"]
    assert table["split"].tolist() == ["train", "test", "test"]
    assert table["group"].tolist() == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"uri": ["a.jpg"]}, "no column label"),
        ({"uri": [], "label": []}, "has no rows"),
        ({"uri": ["a.jpg", "b.jpg"], "label": ["x", "x"]}, "one class only"),
        ({"uri": ["a.jpg", None], "label": ["x", "y"]}, "row 2 has no uri"),
        ({"uri": ["a.jpg", "b.jpg"], "label": ["x", "y"], "split": ["train", "holdout"]}, "'holdout'"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path: Path, columns: dict[str, list[str]], message: str) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(LabelledDataError, match=message):
        read_labelled(Place(str(tmp_path / "labels.csv")))


def test_images_in_no_class_folder_are_refused(phantoms: Path, tmp_path: Path) -> None:
    shutil.copy(next((phantoms / "Testing" / "glioma").iterdir()), tmp_path / "stray.jpg")
    with pytest.raises(LabelledDataError, match="stands in no class folder"):
        read_labelled(Place(str(tmp_path)))


def test_a_folder_without_images_is_told_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "Training" / "glioma").mkdir(parents=True)
    (tmp_path / "Training" / "glioma" / "notes.txt").write_text("none yet")
    with pytest.raises(LabelledDataError, match=r"no image was found in .*not an image \(\.txt\).* Expected .*/Training/<class>"):
        read_labelled(Place(str(tmp_path)))


def test_empty_cells_of_a_csv_are_absent_and_a_label_may_be_a_number(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('uri,label,split,group\na.jpg,0,train,"p1"\nb.jpg,1,,""\n')
    table = read_labelled(Place(str(tmp_path / "labels.csv")))
    assert table["label"].to_pylist() == ["0", "1"]
    assert table["group"].to_pylist() == ["p1", None]
    assert table["split"].to_pylist() == ["train", None]


def test_an_archive_beside_the_class_folders_is_no_class(phantoms: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(phantoms, tmp_path / "data"))
    shutil.make_archive(str(folder / "archive"), "zip", phantoms)
    with pytest.raises(LabelledDataError, match=r"holds the archive archive\.zip"):
        read_labelled(Place(str(folder)))


def test_a_changed_image_changes_the_fingerprint(phantoms: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(phantoms / "Testing", tmp_path / "data"))
    before = fingerprint(read_labelled(Place(str(folder))))
    assert fingerprint(read_labelled(Place(str(folder)))) == before
    image = next((folder / "glioma").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    assert fingerprint(read_labelled(Place(str(folder)))) != before


def test_members_of_archives_are_labelled_images_and_can_be_read(tmp_path: Path) -> None:
    members = [(f"{label}/{number}.jpg", f"{label}{number}".encode()) for label in "ab" for number in range(2)]
    write(tmp_path, {"in/x.zip": zip_bytes(members), "in/y.tar": tar_bytes(members)})
    lines = [f"in/{archive}::{name},{name[0]}" for archive in ("x.zip", "y.tar") for name, _ in members]
    (tmp_path / "labels.csv").write_text("\n".join(["uri,label", *lines, "in/x.zip::gone.jpg,a", ""]))
    table = read_labelled(Place(str(tmp_path / "labels.csv")))
    *found, gone = ByteReader().read_many(table.to_pylist())
    assert found == [data for _, data in members] * 2
    assert "no member of this name" in str(gone)
    before = fingerprint(table)
    write(tmp_path, {"in/x.zip": zip_bytes([(name, data + b"!") for name, data in members])})
    assert fingerprint(read_labelled(Place(str(tmp_path / "labels.csv")))) != before


def test_a_table_may_say_where_its_images_come_from(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("uri,label,source\na.jpg,x,clinic\nb.jpg,y,\n")
    table = read_labelled(Place(str(tmp_path / "labels.csv")))
    assert table["source"].to_pylist() == ["clinic", None]
    (tmp_path / "labels.csv").write_text("uri,label,source\na.jpg,x,web\nb.jpg,y,\n")
    assert fingerprint(read_labelled(Place(str(tmp_path / "labels.csv")))) != fingerprint(table)


def test_where_later_columns_say_nothing_what_was_cached_before_them_stays_right(phantoms: Path) -> None:
    table = read_labelled(Place(str(phantoms)))
    before = [
        "uri",
        "size",
        "modified",
        "container",
        "offset",
        "packed_size",
        "packing",
        "problem_status",
        "problem",
        "label",
        "split",
    ]
    digest = hashlib.sha256(repr(table.select([*before, "group"]).to_pylist()).encode())  # of one batch
    assert fingerprint(table) == digest.hexdigest()[:16]


@pytest.mark.parametrize(("error", "reason"), [(errno.EACCES, "permission"), (errno.ESTALE, "[Ss]tale")])
def test_a_class_folder_that_cannot_be_listed_is_told_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str
) -> None:
    """Neither three classes of four nor "stands in no class folder"."""
    for name in ("glioma", "notumor", "pituitary"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"x")
    real = os.scandir

    def scandir(path: str = ".") -> object:
        if str(path).rstrip("/").endswith("pituitary"):
            raise OSError(error, os.strerror(error), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(LabelledDataError, match=f"pituitary: .*{reason}"):
        read_labelled(Place(str(tmp_path)))
