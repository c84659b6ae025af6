"""Out-of-fold answers: slices, examinations and folds are counted once, and the page holds what the record says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.reports.evaluation.folds import fold_record
from btc_ray.reports.evaluation.page import write_evaluation
from tests.reports.evaluation.test_record import bundle

BUNDLE = bundle()
SLICES, EACH = 40, 4  # slices in all, and of an examination
FOLDS = [{"number": number, "epoch": 3, "temperature": 1.5 + number, "images": SLICES // 2} for number in range(2)]


def answers(*, examinations: bool = True) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Ten examinations of four slices, the first half in fold 0. The first slice of each is wrong, by little; of the last examination all
    are, by much. Fold 0 was divided by a temperature of 1.5, fold 1 by 2.5."""
    classes = list(BUNDLE.classes)
    unit = np.arange(SLICES) // EACH
    labels, fold = unit % len(classes), unit // 5
    logits = np.zeros((SLICES, len(classes)))
    logits[np.arange(SLICES), labels] = 3
    logits[::EACH] = 0
    logits[np.arange(0, SLICES, EACH), (labels[::EACH] + 1) % len(classes)] = 1
    logits[-EACH:] = np.eye(len(classes))[(labels[-EACH:] + 1) % len(classes)] * 5
    scaled = np.exp(logits / (1.5 + fold)[:, None])
    table = pa.table(
        {
            "uri": [f"/data/{number}.png" for number in range(SLICES)],
            "group": unit // 2,
            "patient": [f"p{number // 2}" for number in unit] if examinations else pa.nulls(SLICES, pa.string()),
            "examination": [str(number) for number in unit] if examinations else pa.nulls(SLICES, pa.string()),
            "label": [classes[label] for label in labels],
            "fold": fold,
            "content_sha256": [f"{number:064d}" for number in range(SLICES)],
            "row_id": np.arange(SLICES),
            "feature_distance": np.linspace(0, 1, SLICES),
            "surround": np.zeros(SLICES),
            "source": pa.array(["clinic"] * 8 + [None] * (SLICES - 8), pa.string()),
        }
    )
    return table, logits, scaled / scaled.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def found() -> tuple[dict[str, Any], pa.Table]:
    return fold_record(*answers(), FOLDS, BUNDLE, name="two models")


def test_slices_count_one_by_one_and_examinations_by_the_mean_of_theirs(found: tuple[dict[str, Any], pa.Table]) -> None:
    slices, examinations = (one["metrics"] for one in found[0]["model"]["sets"])
    assert (slices["images"], slices["groups"]) == (40, 5)
    assert slices["accuracy"]["value"] == pytest.approx((40 - 10 - 3) / 40)
    assert (examinations["images"], examinations["groups"]) == (10, 5)
    assert examinations["accuracy"]["value"] == pytest.approx(9 / 10)


def test_each_fold_says_what_a_split_of_its_own_would_have_said(found: tuple[dict[str, Any], pa.Table]) -> None:
    record = found[0]
    assert [row["accuracy"]["value"] for row in record["folds"]] == [pytest.approx(15 / 20), pytest.approx(12 / 20)]
    assert "would have said anything from 60.0% to 75.0%" in record["verdict"]["text"]


def test_calibration_before_is_that_of_the_logits_whatever_the_temperature_of_a_fold(
    found: tuple[dict[str, Any], pa.Table],
) -> None:
    table, logits, _ = answers()
    classes = list(BUNDLE.classes)
    labels = [classes.index(label) for label in table["label"].to_pylist()]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    before = found[0]["model"]["sets"][0]["metrics"]["calibration"]["before"]["cross_entropy"]["value"]
    assert before == pytest.approx(-np.log(shares[np.arange(SLICES), labels]).mean())


def test_errors_are_listed_once_the_most_confident_first(found: tuple[dict[str, Any], pa.Table]) -> None:
    confidence = found[1]["confidence"].to_pylist()
    assert len(confidence) == 13
    assert confidence == sorted(confidence, reverse=True)


def test_without_patients_there_are_no_examinations_and_it_is_said() -> None:
    record, _ = fold_record(*answers(examinations=False), FOLDS, BUNDLE, name="two models")
    (only,) = record["model"]["sets"]
    assert "no image names its patient" in only["remarks"][0]


def test_the_page_has_slices_examinations_and_folds(found: tuple[dict[str, Any], pa.Table]) -> None:
    record = {**found[0], "models": [found[0]["model"]], "facts": {}, "definitions": {}, "versions": {}, "settings": {}}
    page = write_evaluation(record, found[1].to_pylist(), {})
    for text in ("Out of fold, slice by slice", "examination by examination", "Fold by fold", "out_of_fold.parquet", "2.500"):
        assert text in page


def test_slices_whose_label_names_several_classes_are_measured_apart() -> None:
    table, logits, probabilities = answers()
    labels = table["label"].to_pylist()
    labels[0] = "|".join(BUNDLE.classes[:2])
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels))
    record, _ = fold_record(table, logits, probabilities, FOLDS, BUNDLE, name="two models")
    slices = record["model"]["sets"][0]
    assert slices["metrics"]["images"] == SLICES - 1
    assert [(row["label"], row["images"]) for row in slices["several"]] == [(labels[0], 1)]
    page = {**record, "models": [record["model"]], "facts": {}, "definitions": {}, "versions": {}, "settings": {}}
    assert "measured as one of these against none" in write_evaluation(page, [], {})


def test_images_that_name_their_source_are_measured_by_it_in_record_and_page(found: tuple[dict[str, Any], pa.Table]) -> None:
    (clinic,) = found[0]["model"]["by_source"]
    assert (clinic["source"], clinic["measured"]) == ("clinic", 8)
    assert clinic["accuracy"]["value"] == pytest.approx(6 / 8)
    assert clinic["accepted"] is None  # the bundle has no thresholds
    table, logits, probabilities = answers()
    nameless = table.set_column(table.schema.get_field_index("source"), "source", pa.nulls(SLICES, pa.string()))
    assert fold_record(nameless, logits, probabilities, FOLDS, BUNDLE, name="two models")[0]["model"]["by_source"] == []


def test_by_source_a_label_of_several_classes_counts_and_thresholds_accept() -> None:
    table, logits, probabilities = answers()
    labels = ["|".join(name for name in BUNDLE.classes if name != "notumor")] * 8 + table["label"].to_pylist()[8:]
    table = table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels))
    thresholds = {"accept_distance": 0.1, "reject_distance": 2.0, "accept_confidence": 0.5}
    decided = replace(BUNDLE, decision=thresholds)
    (clinic,) = fold_record(table, logits, probabilities, FOLDS, decided, name="two models")[0]["model"]["by_source"]
    assert clinic["tumours"] == 8
    assert clinic["called"] == {
        name: int((probabilities[:8].argmax(axis=1) == place).sum()) for place, name in enumerate(BUNDLE.classes)
    }
    near, sure = np.linspace(0, 1, SLICES)[:8] <= 0.1, probabilities[:8].max(axis=1) >= 0.5
    assert 0 < clinic["accepted"] == (near & sure).sum() < 8
