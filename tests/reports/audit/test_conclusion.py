"""The verdict follows from the numbers: each finding is told where it is there, and not where it is not."""

from typing import Any

import pytest

from btc_ray.reports.audit.conclusion import conclude
from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED
from btc_ray.reports.shared.bootstrap import wilson

KINDS = ("same file", "same pixels", "re-encoded", "mirrored", "turned")


def result(right: int, images: int = 400) -> dict[str, Any]:
    return {"images": images, "learned": 1000, "accuracy": wilson(right, images), "chance": 0.5, "by_class": {}}


def record(**changed: Any) -> dict[str, Any]:
    """A data set in which nothing is wrong: 2,000 images, 400 of them to test on, no copies, probes that only guess."""
    copies = {
        "groups": 2000, "groups_of_several": 0, "images_with_a_copy": 0, "largest_group": 1, "test_images": 400, "training_images": 1600,
        "test_images_with_copy_in_training": 0, "test_images_with_copy_in_training_by_kind": dict.fromkeys(KINDS, 0),
        "groups_with_conflicting_labels": 0, "images_with_conflicting_labels": 0, "test_images_with_conflicting_labels": 0,
    }  # fmt: skip
    parts: dict[str, Any] = {
        "data": {"images": 2000, "readable": 2000, "named_groups": 2000},
        "classes": [{"name": "cats"}, {"name": "dogs"}],
        "copies": copies,
        "properties": {"alone": {"mode": 0.52}, "mode": {"L": [500, 480], "RGB": [500, 520]}},
        "crops": {"doubtful": 0},
        "planes": {
            "columns": ["axial", "coronal", "sagittal", "unsure"],
            "by_class": {"cats": [500, 250, 250, 0], "dogs": [480, 260, 260, 0]},
            "accuracy_from_plane_alone": 0.51,
            "chance": 0.5,
        },
        "probes": {
            "probes": [
                {"key": key, "title": key, "results": {PUBLISHED: result(205), CLEAN: result(205), GROUP: result(205)}}
                for key in ("histogram", "border", "silhouette", "thumbnail", "neighbour")
            ],
            "missing": {},
            "group_split": {"train": 1600, "test": 400, "test_groups": 400},
        },
        "labels": {"reason": "--weights none"},
        "masking": {"reason": "no --model was given"},
        "sources": {"own": {}},
    }
    return {
        name: value | changed.get(name, {}) if isinstance(value, dict) else changed.get(name, value)
        for name, value in parts.items()
    }


def test_where_nothing_is_wrong_nothing_is_said_to_be() -> None:
    found = conclude(record())
    assert found["headline"] == "Nothing was found here that would make a test score worthless"
    assert found["cannot"] == []
    assert found["notes"] == ["No image is a copy of another."]
    assert any("400 other pictures" in sentence for sentence in found["can"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": {"named_groups": 0}}, "the data names no patients"),
        (
            {"data": {"patients": {"named": 9, "images": 90, "test_images": 30, "test_images_with_patient_in_training": 29}}},
            "29 of the 30 test images whose patient is named show one who is in training too",
        ),
        ({"copies": {"groups_with_conflicting_labels": 2, "images_with_conflicting_labels": 5}}, "5 images in 2 groups"),
        (
            {"sources": {"own": {"cats": {"sources": ["web"], "images": 990, "of": 1000}}}},
            "990 of 1,000 images of cats come from web",
        ),
        ({"properties": {"alone": {"mode": 0.75}}}, "stored in grey or colour alone"),
        (
            {"planes": {"by_class": {"cats": [900, 50, 50, 0], "dogs": [300, 350, 350, 0]}}},
            "90% of cats look axial, but 30% of dogs",
        ),
    ],
)
def test_what_is_found_is_said_with_its_numbers(changed: dict[str, Any], said: str) -> None:
    assert any(said in sentence for sentence in conclude(record(**changed))["cannot"])
    assert not any(said in sentence for sentence in conclude(record())["cannot"])


def test_copies_come_first_and_shortcuts_are_told_from_images_without_them() -> None:
    kinds = dict.fromkeys(KINDS, 0) | {"mirrored": 290, "same file": 10}
    copied = {"test_images_with_copy_in_training": 300, "test_images_with_copy_in_training_by_kind": kinds}
    probes = record()["probes"]["probes"]
    probes[1]["results"] |= {PUBLISHED: result(399), GROUP: result(320)}
    found = conclude(record(copies=copied, probes={"probes": probes}))
    assert found["headline"].endswith("75% of its images have a copy in training")
    assert "300 of 400 test images (75.0%)" in found["cannot"][0]
    assert "10 the same file and 290 mirrored" in found["cannot"][0]
    assert any("the border of the frame 80.0%" in sentence for sentence in found["cannot"])
    assert any("100 other pictures" in sentence for sentence in found["can"])
    assert any("above 80.0%" in sentence for sentence in found["can"])


def test_a_bundle_that_does_not_need_the_centre_is_told_and_one_that_does_is_not() -> None:
    def masking(right: int) -> dict[str, Any]:
        rows = [{"kind": "whole", "share": None, "accuracy": wilson(390, 400)}]
        return {
            "images": 400,
            "chance": 0.5,
            "rows": [*rows, {"kind": "without_centre", "share": 0.5, "accuracy": wilson(right, 400)}],
        }

    assert any("painted over" in sentence for sentence in conclude(record(masking=masking(360)))["cannot"])
    assert not any("painted over" in sentence for sentence in conclude(record(masking=masking(210)))["cannot"])
