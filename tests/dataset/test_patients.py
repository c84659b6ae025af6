"""A table of patients lays whose the images are beside the labelled images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from btc_ray.dataset.groups import join_groups
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.split import split_by_group
from btc_ray.dataset.table import LabelledDataError, fingerprint, read_labelled
from btc_ray.storage import Place
from tests.conftest import SHARED


def data(root: Path) -> Place:
    """Six images of each of two classes in class folders; names are unique."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            (root / label / f"{label}{number}.png").write_bytes(b"x")
    return Place(str(root))


def table_of(tmp_path: Path, text: str, end: str = "csv") -> Place:
    file = tmp_path / f"patients.{end}"
    if end == "csv":
        file.write_text(text)
    else:
        lines = [line.split(",") for line in text.split()]
        pd.DataFrame(lines[1:], columns=lines[0]).to_parquet(file)
    return Place(str(file))


@pytest.mark.parametrize("end", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["path", "uri", "key"])
def test_images_are_found_by_their_path_their_uri_or_their_name(tmp_path: Path, column: str, end: str) -> None:
    place = data(tmp_path / "data")
    written = {"path": "a/a{}.png", "uri": f"{tmp_path}/data/a/a{{}}.png", "key": "a{}.png"}[column]
    text = f"{column},patient\n" + "".join(f"{written.format(number)},p{number // 2}\n" for number in range(6))
    found = with_patients(read_labelled(place), place, table_of(tmp_path, text, end).uri)
    groups = {
        uri.rpartition("/")[2]: group for uri, group in zip(found["uri"].to_pylist(), found["group"].to_pylist(), strict=True)
    }
    assert [groups[f"a{number}.png"] for number in range(6)] == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert all(groups[f"b{number}.png"] is None for number in range(6))


def test_no_patient_is_on_two_sides_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = data(tmp_path / "data")
    lines = [f"{label}/{label}{number}.png,{label}-p{number % 3}" for label in ("a", "b") for number in range(6)]
    table = with_patients(read_labelled(place), place, table_of(tmp_path, "\n".join(["path,patient", *lines])).uri)
    patients = np.array(table["group"].to_pylist())
    split = split_by_group(table["label"].to_pylist(), join_groups(patients), validation=0.34, test=0.34, seed=0)
    assert all(len(set(split[patients == name])) == 1 for name in set(patients))
    assert set(split) == {"train", "validation", "test"}
    said = capsys.readouterr().err
    assert "names the patient of 12 of 12 images, 6 patients in all" in said
    assert "12 of 12 images (100%) are of 6 named groups (patients); each stays on one side of a split, with its copies." in said


def test_patients_are_joined_with_the_groups_that_the_data_names(tmp_path: Path) -> None:
    rows = ["uri,label,group", "1.png,a,x", "2.png,a,x", "3.png,b,y", "4.png,b,", "5.png,b,"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    place = Place(str(tmp_path / "labels.csv"))
    text = "key,patient\n2.png,p1\n3.png,p1\n4.png,p2\n"
    group = with_patients(read_labelled(place), place, table_of(tmp_path, text).uri)["group"].to_pylist()
    assert group[0] == group[1] == group[2] is not None
    assert group[3] not in (None, group[0])
    assert group[4] is None


def test_an_examination_stands_beside_its_patient_and_changes_no_fingerprint(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    plain, visits = (
        with_patients(read_labelled(place), place, table_of(tmp_path / end, text).uri)
        for end, text in (("plain", "path,patient\na/a0.png,p1\n"), ("visits", "path,patient,examination\na/a0.png,p1,7\n"))
        if not (tmp_path / end).mkdir()
    )
    assert visits["examination"].to_pylist() == ["7", *[None] * 11]
    assert plain["examination"].null_count == 12
    assert fingerprint(plain) == fingerprint(visits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,patient\nelsewhere/1.png,p1\n", "names none of the images"),
        ("path,patient\na1.png,p1\n", "names none of the images"),  # a name alone is a key, and no path
        ("path,patient\na/a1.png,p1\na/a1.png,p2\n", "names two patients of a/a1.png: p1 and p2"),
        ("path,person\na/a1.png,p1\n", "patient"),
        ("person,patient\nx,p1\n", "row .* has neither path nor uri nor key"),
    ],
)
def test_a_table_that_says_nothing_or_two_things_is_refused(tmp_path: Path, text: str, message: str) -> None:
    place = data(tmp_path / "data")
    with pytest.raises(LabelledDataError, match=message):
        with_patients(read_labelled(place), place, table_of(tmp_path, text).uri)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    with pytest.raises(LabelledDataError, match=r"nowhere\.csv"):
        with_patients(read_labelled(place), place, str(tmp_path / "nowhere.csv"))


def test_without_patients_it_is_said_what_a_split_keeps_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = data(tmp_path / "data")
    table = read_labelled(place)
    assert with_patients(table, place, None) is table
    assert "slices of one patient may not" in capsys.readouterr().err


@pytest.mark.shared
def test_the_patients_of_the_published_data_set_are_found(real_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patients = SHARED / "data" / "patients" / "patients.csv"
    if not patients.exists():
        pytest.skip("needs ../shared/data/patients, which a fresh clone does not have")
    table = with_patients(read_labelled(Place(str(real_images))), Place(str(real_images)), str(patients))
    assert len(table) - table["group"].null_count == 4750
    assert "names the patient of 4,750 of 7,019 images, 209 patients in all" in capsys.readouterr().err
