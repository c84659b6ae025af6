"""Labels laid upon the slices of an archive: whose they are, which slices they are for, and what is said of the rest."""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.dataset.archived import read_archive
from btc_ray.dataset.crops import labelled_crops
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.table import SCHEMA, LabelledDataError, entries_of, fingerprint, to_read
from btc_ray.errors import UserError
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.settings import Labelled, SettingsError
from btc_ray.storage import Place
from btc_ray.studies.preparer import Preparer
from tests.studies.made import dicom, enhanced, head, nifti

PATIENTS = ("LEAKA", "LEAKB")
SLICES = 6
NAMED = tuple(zip(PATIENTS, ("glioma", "notumor"), strict=True))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two patients with six slices each, and a localiser of the first."""
    folder = tmp_path / "LEAKDIR"
    for number, patient in enumerate(PATIENTS):
        tags = {
            "PatientID": patient,
            "PatientName": patient,
            "StudyInstanceUID": f"1.{number}",
            "SeriesInstanceUID": f"1.{number}.1",
        }
        (folder / patient).mkdir(parents=True)
        for at in range(SLICES):
            slice_ = dicom((0, 0, 5.0 * at), InstanceNumber=at + 1, SOPInstanceUID=f"1.{number}.1.{at}", **tags)
            (folder / patient / f"IM{at}").write_bytes(slice_)
    tags = {"PatientID": PATIENTS[0], "StudyInstanceUID": "1.0", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    (folder / "localiser").write_bytes(dicom(SeriesInstanceUID="1.0.9", SOPInstanceUID="1.0.9.0", **tags))
    return folder


def read(archive: Path, text: str, **flags: Any) -> pa.Table:
    labels = archive.parent / "labels.csv"
    labels.write_text(text)
    settings = Labelled(data=str(archive), output=str(archive.parent / "out"), labels=str(labels), **flags)
    return read_archive(Place(str(archive)), settings, cpus=1, private=Place(str(archive.parent / "private")))


BY_PATIENT = "patient_id,label\nLEAKA,glioma\nLEAKB,notumor\n"


@pytest.mark.parametrize(
    "text",
    [
        BY_PATIENT,
        "study_uid,label\n1.0,glioma\n1.1,notumor\n",
        "series_uid,label\n1.0.1,glioma\n1.1.1,notumor\n",
        "path,label\nLEAKA,glioma\nLEAKB,notumor\n",
        "path,label\n" + "".join(f"{folder}/IM{at},{label}\n" for folder, label in NAMED for at in range(6)),
        "sop_uid,label\n" + "".join(f"1.{n}.1.{at},{label}\n" for n, label in enumerate(("glioma", "notumor")) for at in range(6)),
    ],
    ids=["patient", "study", "series", "folder", "file", "instance"],
)  # fmt: skip
def test_slices_have_the_label_of_what_names_them(archive: Path, text: str) -> None:
    table = read(archive, text)
    assert table["label"].to_pylist() == ["glioma"] * SLICES + ["notumor"] * SLICES
    assert table.schema == SCHEMA


def test_a_patient_is_a_group(archive: Path) -> None:
    groups = read(archive, BY_PATIENT)["group"].to_pylist()
    assert len(set(groups[:SLICES])) == len(set(groups[SLICES:])) == 1
    assert groups[0] != groups[-1]


def test_groups_of_the_user_unite_patients(archive: Path) -> None:
    table = read(archive, BY_PATIENT)
    (archive.parent / "groups.csv").write_text("path,patient\nLEAKA/IM0,same\nLEAKB/IM3,same\n")
    united = with_patients(table, Place(str(archive)), str(archive.parent / "groups.csv"))["group"]
    assert len(set(united.to_pylist())) == 1


def test_no_path_and_no_identifier_is_said_or_stands_in_what_may_be_shared(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read(archive, BY_PATIENT + "LEAKNOBODY,glioma\n")
    with pytest.raises(UserError) as error:
        read(archive, "patient_id,label\nLEAKA,glioma\nLEAKA,LEAKLABEL\n")
    with pytest.raises(LabelledDataError) as none:
        read(archive, "patient_id,label\nLEAKNOBODY,glioma\n")
    shared = table.drop_columns(["read_from", "container"])
    assert not re.search("LEAK", f"{shared.to_pylist()} {capsys.readouterr()} {error.value} {none.value}")
    assert set(table["read_from"].to_pylist()) == {str(path) for path in archive.glob("*/IM*")}
    assert (archive.parent / "private").stat().st_mode & 0o077 == 0


def test_what_is_not_used_is_counted(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(archive, "patient_id,label\nLEAKA,glioma\nNOBODY,glioma\nLEAKA,glioma\n", series=("anatomical",))
    said = capsys.readouterr().err
    assert "3 series of 2 studies: 2 selected, 1 not: 1 × localiser." in said
    assert "Rows of --labels that label no image of --data: 1 (2)." in said
    assert re.search(r"Selected series without a label: 1 \([0-9a-f]{16}\)\.", said)
    assert "left out: 1 labelled slices × series not selected: localiser" in said
    assert "show nothing of it: 1; --slices" in said


def test_a_range_labels_its_slices_alone_and_is_not_weak(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = read(archive, "patient_id,label,first_slice,last_slice\nLEAKA,glioma,2,3\nLEAKB,notumor,0,0\n")
    assert table["slice_index"].to_pylist() == [2, 3, 0]
    assert "given to every slice" not in capsys.readouterr().err


def test_the_middle_third_of_a_series_is_taken_where_asked(archive: Path) -> None:
    table = read(archive, "patient_id,label,first_slice,last_slice\nLEAKA,glioma,,\nLEAKB,notumor,0,0\n", slices="middle")
    assert table["slice_index"].to_pylist() == [2, 3, 0]  # what is named by itself stays


def test_masks_say_which_slices_a_label_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    affine, lesion = np.diag([2.0, 2.0, 5.0, 1.0]), np.zeros((20, 20, 6), np.int16)
    lesion[:13, 0, 2:4] = lesion[:12, 0, 4] = 1  # of 4 mm²: 52 in two slices, 48 in the next
    for name, values in (("ill_t1", head((20, 20, 6))), ("ill_seg", lesion), ("well_t1", head((20, 20, 6)) + 1)):
        (tmp_path / "in" / f"{name}.nii").write_bytes(nifti(values, affine if "ill" in name else 2 * affine))
    text = "path,label,first_slice,last_slice\nill_t1.nii,glioma,,\nwell_t1.nii,notumor,1,2\n"
    table = read(tmp_path / "in", text, slices="masked")
    assert list(zip(table["label"].to_pylist(), table["frame"].to_pylist(), strict=True)) == [
        ("glioma", 2), ("glioma", 3), ("notumor", 1), ("notumor", 2),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "slices in which they have 50 mm² or more: 2." in said
    assert "left out: 4 labelled slices × less than 50 mm² of a mask" in said


def test_slices_are_chosen_of_archives_alone() -> None:
    with pytest.raises(SettingsError, match="--slices is for an archive with --labels"):
        Labelled(data="d", output="o", slices="middle")


def test_labels_bring_their_split(archive: Path) -> None:
    table = read(archive, "patient_id,label,split\nLEAKA,glioma,Training\nLEAKB,notumor,test\n")
    assert table["split"].to_pylist() == ["train"] * SLICES + ["test"] * SLICES
    with pytest.raises(LabelledDataError, match="row 1 has a split"):
        read(archive, "patient_id,label,split\nLEAKA,glioma,sometimes\n")


def test_the_same_instance_twice_is_one_image(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (archive / "again").write_bytes((archive / "LEAKA" / "IM0").read_bytes())
    assert len(read(archive, BY_PATIENT)) == 2 * SLICES
    assert "the same instance once more" in capsys.readouterr().err


def test_an_archive_that_is_a_zip_has_the_same_labels(archive: Path) -> None:
    with zipfile.ZipFile(archive.parent / "x.zip", "w") as packed:
        for path in sorted(archive.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(archive))
    assert len(read(archive.parent / "x.zip", "path,label\nLEAKA,glioma\nLEAKB/IM1,notumor\n")) == SLICES + 1


def test_a_file_that_cannot_be_read_keeps_its_label(archive: Path) -> None:
    (archive / "LEAKA" / "IM9.dcm").write_bytes(b"")
    table = read(archive, "path,label\nLEAKA,glioma\nLEAKB,notumor\n")
    (broken,) = table.filter(table["problem_status"].is_valid()).to_pylist()
    assert (broken["label"], broken["problem_status"]) == ("glioma", "unreadable")


def test_pictures_of_an_archive_are_labelled_by_path(archive: Path, phantoms: Path) -> None:
    picture = next((phantoms / "Testing" / "glioma").iterdir())
    (archive / picture.name).write_bytes(picture.read_bytes())
    assert len(read(archive, f"path,label\n{picture.name},glioma\nLEAKB,notumor\n")) == 1 + SLICES


def test_bids_names_label_volumes_and_are_groups(tmp_path: Path) -> None:
    for subject in ("01", "02"):
        folder = tmp_path / "bids" / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{subject}_T1w.nii").write_bytes(nifti(head((8, 9, 5)) + int(subject)))
    table = read(tmp_path / "bids", "sub,label\n01,glioma\nsub-02,notumor\n")
    labels = dict(zip(table["group"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert sorted(labels.values()) == ["glioma", "notumor"]
    assert table["read_from"].null_count == len(table)  # NIfTI is not private of itself
    assert all("#slice=" in uri for uri in table["uri"].to_pylist())


def test_the_crop_of_a_labelled_frame_is_that_of_scoring(tmp_path: Path) -> None:
    side = 64
    y, x = np.mgrid[:side, :side]
    discs = [((x - 20 - 4 * n) ** 2 + (y - 30) ** 2 < 300) * 900 + x for n in range(3)]
    data = enhanced([10, 5, 0], Rows=side, Columns=side, PixelData=np.array(discs, np.uint16).tobytes())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "volume").write_bytes(data)
    table = read(tmp_path / "in", "patient_id,label\nP1,glioma\n")
    preprocess = Preprocess(size=48)
    crops = Preparer(preprocess)(to_read(table))
    assert crops["uri"].to_pylist() == table["uri"].to_pylist()
    for frame, pixels in enumerate(crops["pixels"].to_pylist()):
        expected = prepare(data, preprocess, frame).pixels
        assert expected is not None
        assert pixels == expected.tobytes()


def test_labelled_slices_of_air_are_counted_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = np.where(np.isin(np.arange(9), (2, 3, 4, 7)), head((20, 22, 9)), 0).astype(np.int16)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x_t1.nii").write_bytes(nifti(volume, np.diag([1.0, 1.0, 5.0, 1.0])))
    used = {flag: read(tmp_path / "in", "path,label\nx_t1.nii,glioma\n", slices=flag) for flag in ("all", "middle")}
    assert {flag: table["slice_index"].to_pylist() for flag, table in used.items()} == {"all": [2, 3, 4, 7], "middle": [3, 4]}
    said = capsys.readouterr().err
    assert "left out: 5 labelled slices × shows nothing but air" in said
    assert "5 slices of NIfTI volumes show nothing but air and have no row." in said


def test_frames_of_one_file_are_no_copies_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x_t1.nii").write_bytes(nifti(head((40, 40, 3)), np.diag([1.0, 1.0, 5.0, 1.0])))
    table = read(tmp_path / "in", "path,label,first_slice,last_slice\nx_t1.nii,glioma,0,1\nx_t1.nii,notumor,2,2\n")
    crops = labelled_crops(table, preprocess=Preprocess(size=32), cache=Place(str(tmp_path / "cache")))
    contents = crops.rows["content_sha256"].to_pylist()
    assert len(set(contents)) == 3
    assert {content.partition("#")[0] for content in contents} == {
        hashlib.sha256((tmp_path / "in" / "x_t1.nii").read_bytes()).hexdigest()
    }
    assert len(set(table["group"].to_pylist())) == 1  # of one patient all the same


def test_entries_made_of_a_table_say_where_and_whose_its_slices_are(archive: Path) -> None:
    table = read(archive, BY_PATIENT)
    for row, entry in zip(table.to_pylist(), entries_of(table), strict=True):
        assert entry.slice is not None
        assert (entry.uri, entry.slice.shown_uri) == (row["read_from"], row["uri"])
        assert (entry.slice.series_key, entry.frame, entry.kind) == (row["series_key"], 0, "dicom")


def test_a_table_of_pictures_has_the_fingerprint_of_before_there_were_archives() -> None:
    row = {"row_id": 0, "uri": "a/1.png", "size": 3, "modified": 5, "label": "a", "split": "train"}
    assert fingerprint(pa.Table.from_pylist([row], schema=SCHEMA)) == "50407d927725aae6"
