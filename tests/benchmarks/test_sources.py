"""Each arm measures what it says: no image by a model that learned from it or its group, and none twice."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.sources import arms, measured
from btc_ray.dataset.crops import Crops
from btc_ray.dataset.labelled import LabelledImages
from btc_ray.storage import Place

HOME, CLINIC, WEB = "home", "clinic", "web"


@pytest.fixture
def images() -> tuple[LabelledImages, np.ndarray]:
    source = np.array([HOME] * 8 + [CLINIC] * 6 + [WEB] * 4, object)
    split = np.array(["train"] * 4 + ["validation"] * 2 + ["test"] * 2 + ["train", "test"] * 5)
    split[-1] = "left_out"
    labels = ["glioma", "notumor"] * 4 + ["glioma|meningioma"] * 6 + ["notumor"] * 4
    crops = Crops(
        fingerprint="t-p",
        folder=Place("nowhere"),
        rows=pa.table({"uri": [str(number) for number in range(18)], "label": labels}),
        skipped={},
        size=8,
    )
    found = LabelledImages(
        crops=crops,
        classes=("glioma", "meningioma", "notumor"),
        labels=np.zeros(18, np.int64),
        copies=np.arange(18),
        groups=np.array([*range(8), 8, 8, 9, 9, 10, 11, 12, 13, 14, 15]),
        split=split,
        reasons=(None,) * 18,
        examinations=(None,) * 18,
    )
    return found, source


def test_every_image_from_elsewhere_is_measured_by_models_that_saw_neither_it_nor_its_group(
    images: tuple[LabelledImages, np.ndarray],
) -> None:
    found, source = images
    away = source != HOME
    sides = dict(arms(found, source, HOME, seed=0))
    assert list(sides) == ["home alone", "half of each:first", "half of each:second", "all but clinic", "all but web"]
    for name, split in sides.items():
        assert (split[~away] == found.split[~away]).all(), name
        assert split[-1] == "left_out"
        assert not set(found.groups[away & (split == "train")]) & set(found.groups[split == "test"]), name
    assert set(sides["home alone"][away][:-1]) == {"test"}
    halves = [sides[f"half of each:{half}"] for half in ("first", "second")]
    tested = np.stack([half == "test" for half in halves])[:, away][:, :-1]
    assert (tested.sum(axis=0) == 1).all()
    assert tested.any(axis=1).all()
    assert set(sides["all but web"][source == CLINIC]) == {"train"}
    assert set(sides["all but web"][source == WEB][:-1]) == {"test"}


def test_shares_count_what_a_label_may_mean(images: tuple[LabelledImages, np.ndarray]) -> None:
    found, source = images
    said = np.full(18, -1)
    said[8:14] = [0, 1, 2, 0, 1, 2]  # tumours of the clinic: two are called notumor
    said[14:17] = [2, 2, 0]
    clinic, web = measured(found, source, said, "arm")
    assert (clinic["arm"], clinic["source"], clinic["measured"]) == ("arm", CLINIC, 6)
    assert clinic["tumour_sensitivity"]["value"] == pytest.approx(4 / 6)
    assert clinic["accuracy"]["value"] is None  # no label is one class
    assert clinic["specificity"]["value"] is None
    assert web["specificity"]["value"] == web["accuracy"]["value"] == pytest.approx(2 / 3)
