"""A tumour of unknown kind is measured as a tumour against none."""

import numpy as np
import pytest

from btc_ray.reports.shared.several import measure_several

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def test_called_any_of_its_classes_is_right_and_the_others_say_how_often_that_is_said_in_vain() -> None:
    labels = ["tumour"] * 8 + ["notumor"] * 4 + ["glioma"] * 2
    said = [0, 1, 3, 0, 0, 0, 2, 2, 2, 2, 2, 1, 0, 2]
    probabilities = np.full((14, 4), 0.1)
    probabilities[np.arange(14), said] = 0.7
    (found,) = measure_several(labels, probabilities, np.arange(14) // 2, CLASSES)
    assert (found["images"], found["groups"], found["classes"]) == (8, 4, ["glioma", "meningioma", "pituitary"])
    assert found["sensitivity"]["value"] == pytest.approx(6 / 8)
    assert found["specificity"]["value"] == pytest.approx(3 / 4)  # the gliomas are neither
    assert found["confidence"] == pytest.approx((6 * 0.9 + 2 * 0.3) / 8)
    assert found["sensitivity"]["low"] < 6 / 8 < found["sensitivity"]["high"]


def test_labels_of_one_class_are_nothing_to_measure_so() -> None:
    assert measure_several(["glioma", "notumor"], np.eye(4)[[0, 2]], np.arange(2), CLASSES) == []
