"""What a label of another data set means to a model."""

import pytest

from btc_ray.dataset.meaning import classes_meant, without_tumour

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
TUMOURS = {"glioma", "meningioma", "pituitary"}


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("glioma", {"glioma"}),
        ("glioma|meningioma", {"glioma", "meningioma"}),
        ("glioma | pituitary", {"glioma", "pituitary"}),
        ("tumor", TUMOURS),
        ("Tumour", TUMOURS),
        ("notumor", {"notumor"}),
        ("No_Tumour", {"notumor"}),
        ("healthy", {"notumor"}),
        ("metastasis", set()),
        ("glioma|metastasis", set()),
    ],
)
def test_a_label_means_the_classes_that_answer_it(label: str, meant: set[str]) -> None:
    assert classes_meant(label, CLASSES) == meant


@pytest.mark.parametrize(
    ("classes", "none"),
    [(CLASSES, "notumor"), (("glioma", "no tumor"), "no tumor"), (("glioma", "other"), None), (("no", "normal"), None)],
)
def test_the_class_without_a_tumour_goes_by_its_name(classes: tuple[str, ...], none: str | None) -> None:
    assert without_tumour(classes) == none


def test_a_class_called_tumour_is_itself_and_without_a_class_of_none_tumour_says_nothing() -> None:
    assert classes_meant("tumor", ("notumor", "tumor")) == {"tumor"}
    assert classes_meant("tumor", ("glioma", "meningioma")) == frozenset()
