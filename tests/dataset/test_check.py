"""The classes of a labelled data set are looked at before anything is trained on them."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from btc_ray.dataset.check import check_classes, check_readable, oddities
from btc_ray.dataset.table import LabelledDataError, class_names, read_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.storage import Place

IMAGE = cv2.imencode(".png", np.arange(400, dtype=np.uint8).reshape(20, 20))[1].tobytes()


def data(root: Path, folders: Mapping[str, int], content: bytes = IMAGE) -> Place:
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.png").write_bytes(content)
    return Place(str(root))


@pytest.mark.parametrize(
    "names",
    [
        ("glioma", "Glioma"),
        ("no tumor", "no_tumor"),
        ("notumor", "No-Tumor"),
        ("glioma", "glioma_tumor"),
        ("pituitary tumour", "pituitary tumor"),
        ("meningioma", "menigioma"),
        ("metastasis", "metastases"),
        ("glioma", "glioma - Copy"),
        ("glioma", "Glioma Test"),
        ("glioma", "glioma_aug"),
        ("rotated glioma", "glioma"),
        ("grade 1", "grade 01"),
        ("Métastase", "metastase"),
    ],
)
def test_names_that_are_likely_one_class_are_told_with_their_counts(names: tuple[str, str]) -> None:
    (sentence,) = oddities({names[0]: 120, names[1]: 7, "healthy": 50})
    assert "likely the same class" in sentence
    assert "(120)" in sentence
    assert "(7)" in sentence
    assert "healthy" not in sentence


@pytest.mark.parametrize(
    "names",
    [
        ("glioma", "meningioma", "notumor", "pituitary"),
        ("1.1", "1.10", "2.0", "11"),
        ("grade II", "grade III", "grade IV"),
        ("class 1", "class 2", "class 12"),
        ("grade 1 1", "grade 11"),
        ("typical", "atypical"),
        ("yes", "no"),
        ("tumor", "no tumor"),
        ("tumor", "normal"),
        ("IDH+", "IDH"),
        ("benign", "malignant", "none"),
        ("LGG", "HGG"),
        ("0", "1", "2"),
        ("10", "1", "100"),
        ("type 1", "type 2"),
        ("胶质瘤", "脑膜瘤"),
    ],
)
def test_names_of_different_classes_are_not_odd(names: tuple[str, ...]) -> None:
    assert oddities(dict.fromkeys(names, 100)) == []


@pytest.mark.parametrize(
    "name", ["images", "Validation", "test images", "New Folder", "dataset", "masks", "unlabelled", "fold1", "batch_02"]
)
def test_a_folder_that_is_no_class_is_told(name: str) -> None:
    (sentence,) = oddities({"glioma": 10, "meningioma": 10, name: 3})
    assert sentence.endswith("(3) is likely no class.")


def test_a_column_of_identifiers_is_no_column_of_classes() -> None:
    (sentence,) = oddities({f"patient-{number}x": 1 for number in range(500)})
    assert sentence.startswith("there are 500 different labels")


def test_a_name_with_an_escape_code_is_told_and_not_obeyed() -> None:
    (sentence,) = oddities({"glioma": 10, "meningioma": 10, "pitu\x1b[2Jitary": 10})
    assert "\x1b" not in sentence
    assert "cannot be printed" in sentence


@pytest.mark.parametrize("split", ["valid", "val", "Validation", "VALIDATION "])
def test_a_validation_folder_is_a_split_and_no_class(tmp_path: Path, split: str) -> None:
    place = data(tmp_path, {f"{side}/{name}": 3 for side in ("train", split, "test") for name in ("a", "b")})
    table = check_classes(read_labelled(place), place)
    assert class_names(table) == ("a", "b")
    assert sorted(set(table["split"].to_pylist())) == ["test", "train", "validation"]


def test_splits_inside_the_class_folders_are_splits(tmp_path: Path) -> None:
    place = data(tmp_path, {f"{name}/{side}": 3 for side in ("Training", "Testing") for name in ("a", "b")})
    table = read_labelled(place)
    assert class_names(table) == ("a", "b")
    assert sorted(set(table["split"].to_pylist())) == ["test", "train"]


def test_a_data_set_inside_itself_is_refused_by_the_name_of_its_folder(tmp_path: Path) -> None:
    place = data(tmp_path, {"yes": 4, "no": 4, "brain_scans/yes": 4, "brain_scans/no": 4})
    with pytest.raises(LabelledDataError, match=r"folder brain_scans \(8 images\) holds the class folders no and yes once more"):
        check_classes(read_labelled(place), place)
    table = check_classes(read_labelled(place), place, classes=("yes", "no"))
    assert len(table) == 8


def test_folders_of_patients_inside_the_class_folders_are_no_matter(tmp_path: Path) -> None:
    place = data(tmp_path, {f"{name}/{patient}": 3 for name in ("a", "b") for patient in ("p1", "p2")})
    assert len(check_classes(read_labelled(place), place)) == 12


def test_what_one_folder_too_high_means_is_told(tmp_path: Path) -> None:
    place = data(tmp_path, {f"archive/{side}/{name}": 3 for side in ("Training", "Testing") for name in ("a", "b")})
    with pytest.raises(LabelledDataError, match=r"/archive holds folders \(.*Testing.*\): is it what --data should name"):
        read_labelled(place)


def test_insisting_takes_the_odd_names_and_leaves_out_the_others_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = data(tmp_path, {"glioma": 4, "Glioma": 5, "images": 6})
    with pytest.raises(
        LabelledDataError, match=r"(?s)Glioma \(5\) and glioma \(4\) are likely the same.*images \(6\) is likely no"
    ):
        check_classes(read_labelled(place), place)
    table = check_classes(read_labelled(place), place, classes=("glioma", "Glioma"))
    assert class_names(table) == ("Glioma", "glioma")
    assert "left out, since --classes does not name them: images (6)" in capsys.readouterr().err


def test_folds_above_the_class_folders_are_no_classes(tmp_path: Path) -> None:
    place = data(tmp_path, {f"fold{number}/{name}": 4 for number in (1, 2, 3) for name in ("glioma", "notumor")})
    with pytest.raises(LabelledDataError, match=r"fold1 \(8\) is likely no class"):
        check_classes(read_labelled(place), place)


def test_an_image_with_two_labels_is_told_by_its_name(tmp_path: Path) -> None:
    data(tmp_path, {"glioma": 4, "notumor": 4})
    rows = [f"{name}/{number}.png,{name}" for name in ("glioma", "notumor") for number in range(4)]
    (tmp_path / "once.csv").write_text("\n".join(["uri,label", *rows, rows[1]]))
    (tmp_path / "twice.csv").write_text("\n".join(["uri,label", *rows, "glioma/1.png,notumor"]))
    once, twice = Place(str(tmp_path / "once.csv")), Place(str(tmp_path / "twice.csv"))
    assert len(check_classes(read_labelled(once), once)) == 9
    with pytest.raises(LabelledDataError, match=r"1 image is named with two labels, .*glioma/1\.png with glioma and notumor"):
        check_classes(read_labelled(twice), twice)


def test_a_mistyped_class_is_refused_with_what_there_is(tmp_path: Path) -> None:
    place = data(tmp_path, {"glioma": 4, "normal": 5})
    with pytest.raises(
        LabelledDataError, match=r"no image of the class gliom that --classes names; it has glioma \(4\), normal \(5\)"
    ):
        check_classes(read_labelled(place), place, classes=("gliom", "normal"))


def test_the_images_of_each_class_are_counted_by_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = data(tmp_path, {"train/a": 5, "test/a": 3, "train/b": 4})
    check_classes(read_labelled(place), place)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split() for line in lines[-2:]] == [["a", "5", "train", "3", "test"], ["b", "4", "train", "0", "test"]]


def test_a_class_of_two_images_is_refused(tmp_path: Path) -> None:
    place = data(tmp_path, {"a": 5, "b": 2})
    with pytest.raises(LabelledDataError, match=r"too few images of b \(2\)"):
        check_classes(read_labelled(place), place)


def test_a_class_of_which_nothing_can_be_read_is_told_before_training(tmp_path: Path) -> None:
    place = data(tmp_path, {"a": 5})
    data(tmp_path, {"b": 5}, content=b"no picture")
    table = read_labelled(place)
    with pytest.raises(LabelledDataError, match=r"none of the images looked at can be read .*, of b \(5\): "):
        check_readable(table, place, Preprocess(size=64))
    (tmp_path / "b" / "2.png").write_bytes(IMAGE)  # the middle one is among those looked at
    check_readable(table, place, Preprocess(size=64))


def test_spaces_around_a_label_are_no_part_of_it_and_two_ways_to_write_an_accent_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decomposed = unicodedata.normalize("NFD", "méningiome")
    rows = [
        "uri,label",
        "a.png,gliome",
        "b.png,gliome ",
        f"c.png,{decomposed}",
        f"d.png,{unicodedata.normalize('NFC', decomposed)}",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    table = read_labelled(Place(str(tmp_path / "labels.csv")))
    assert class_names(table) == ("gliome", unicodedata.normalize("NFC", decomposed))
    assert "taken as 'gliome': 1 labels written 'gliome '" in capsys.readouterr().err
