"""A label may name several classes: it is none itself, and contradicts only those that it does not name."""

from pathlib import Path

import numpy as np
import pytest

from btc_ray.dataset.check import check_classes
from btc_ray.dataset.groups import contradicting, without_common_class
from btc_ray.dataset.several import is_several, membership, named_classes, one_name
from btc_ray.dataset.split import split_by_group
from btc_ray.dataset.table import LabelledDataError, class_names, read_labelled, several_names
from btc_ray.storage import Place

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
TUMOUR = "glioma|meningioma|pituitary"


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("glioma", ("glioma",)),
        (TUMOUR, ("glioma", "meningioma", "pituitary")),
        ("tumour", ("glioma", "meningioma", "pituitary")),
        ("pituitary | glioma", ("glioma", "pituitary")),
        ("metastasis", ()),
        ("glioma|metastasis", ()),
        ("glioma|glioma", ()),
    ],
)
def test_a_label_names_the_classes_that_stand_in_it(label: str, named: tuple[str, ...]) -> None:
    assert named_classes(label, CLASSES) == named


def test_tumour_is_a_class_of_its_own_where_its_kinds_are_not_told_apart() -> None:
    assert not is_several("tumour", ("notumor", "tumour"))
    assert one_name("tumour", ("notumor", "tumour")) == "tumour"
    assert one_name("tumour", (*CLASSES, "tumour")) == TUMOUR


def labelled(tmp_path: Path, *labels: str) -> Place:
    lines = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    (tmp_path / "labels.csv").write_text("\n".join(["uri,label", *lines]))
    return Place(str(tmp_path / "labels.csv"))


def test_in_tables_and_folders_it_is_written_in_one_way_and_is_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_labelled(labelled(tmp_path, *CLASSES * 3, "tumour", "pituitary|glioma"))
    assert class_names(table) == CLASSES
    assert several_names(table) == (TUMOUR, "glioma|pituitary")
    for folder in (*CLASSES, "tumour"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "data" / folder / f"{number}.png").write_bytes(b"x")
    place = Place(str(tmp_path / "data"))
    found = check_classes(read_labelled(place), place)
    assert several_names(found) == (TUMOUR,)
    assert "15 labelled images of 4 classes" in capsys.readouterr().err
    assert several_names(check_classes(read_labelled(place), place, classes=CLASSES)) == (TUMOUR,)


def test_a_part_that_is_no_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataError, match="of metastasis there is no image"):
        read_labelled(labelled(tmp_path, *CLASSES, "glioma|metastasis"))


def test_copies_contradict_each_other_where_no_class_is_common_to_their_labels() -> None:
    names = ("glioma", "meningioma", "notumor", "pituitary", TUMOUR)
    labels = np.array([0, 4, 2, 4, 1, 4, 0, 1])
    groups = np.array([0, 0, 1, 1, 2, 2, 2, 3])
    found = without_common_class(groups, membership(names, CLASSES)[labels])
    assert found.tolist() == [False, False, True, True, True, True, True, False]
    exact = labels < 4
    alone = without_common_class(groups[exact], membership(names, CLASSES)[labels[exact]])
    assert alone.tolist() == contradicting(groups[exact], labels[exact]).tolist()


def test_a_label_of_several_classes_may_be_on_one_side_alone() -> None:
    labels = ["a"] * 10 + ["b"] * 10 + ["a|b"]
    split = split_by_group(labels, np.arange(21), validation=0.2, test=0.2, seed=0)
    assert split[20] == "train"
