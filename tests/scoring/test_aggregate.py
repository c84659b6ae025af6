"""Series and exams from scores: evidence over the used slices, no verdict without a fitted rule."""

from typing import Any

import pyarrow as pa
import pytest

from btc_ray.scoring.aggregate import exams_table, series_table
from btc_ray.studies.tables import DESCRIPTION, exams_schema, series_schema

CLASSES = ("glioma", "notumor")


def described(*series: dict[str, Any]) -> pa.Table:
    base = {"series_key": "s", "exam_key": "e", "patient_key": "p", "slices": 10, "selected": True, "patient_conflict": False}
    return pa.Table.from_pylist([base | one for one in series], schema=pa.schema(DESCRIPTION))


def scores(*rows: dict[str, Any]) -> list[pa.RecordBatch]:
    base = {
        "series_key": "s", "status": "ok", "decision": "accept", "prob_glioma": 0.9, "prob_notumor": 0.1, "feature_distance": 1.0,
        "duplicate_of": None,
    }  # fmt: skip
    numbered = [{"row_id": n, "slice_index": n, "position_mm": 5.0 * n} | base | row for n, row in enumerate(rows)]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("series_key", "status", "decision")),
            *((name, pa.float32()) for name in ("prob_glioma", "prob_notumor", "feature_distance", "position_mm")),
            *((name, pa.int64()) for name in ("row_id", "duplicate_of")),
            ("slice_index", pa.int32()),
        ]
    )
    return pa.Table.from_pylist(numbered, schema=schema).to_batches(max_chunksize=3)  # the edges of batches must not matter


HEALTHY = {"prob_glioma": 0.2, "prob_notumor": 0.8}


def one(*rows: dict[str, Any], **series: Any) -> dict[str, Any]:
    table = series_table(described(series), scores(*rows), classes=CLASSES, healthy="notumor")
    assert table.schema.equals(series_schema(CLASSES))
    return table.to_pylist()[0]


def test_means_and_shares_are_over_ok_slices_that_are_not_rejected() -> None:
    row = one(*[{}] * 4, HEALTHY, {"decision": "reject"}, {"status": "unreadable", "decision": None})
    assert (row["rows_ok"], row["rows_not_ok"], row["n_accept"], row["n_reject"], row["n_used"]) == (6, 1, 5, 1, 5)
    assert row["mean_glioma"] == pytest.approx((4 * 0.9 + 0.2) / 5)
    assert row["share_glioma"] == pytest.approx(0.8)
    assert row["share_tumour"] == pytest.approx(0.8)


def test_a_duplicate_counts_once() -> None:
    assert one({}, {"duplicate_of": 0})["n_used"] == 1


def test_the_longest_run_ends_at_other_labels_rejected_slices_and_the_next_stack() -> None:
    rows = [{}] * 3 + [HEALTHY] + [{}] * 5 + [{"decision": "reject"}] + [{}] * 4
    row = one(*rows)
    assert (row["longest_run"], row["longest_run_mm"]) == (5, 20)
    stacks = [{"position_mm": 5.0 * (n % 3)} for n in range(6)]
    assert one(*stacks)["longest_run"] == 3


def test_the_peak_is_the_used_slice_with_the_most_probable_tumour() -> None:
    rows = [{}, {"prob_glioma": 0.99, "prob_notumor": 0.01}, {"prob_glioma": 1.0, "prob_notumor": 0.0, "decision": "reject"}]
    assert one(*rows)["peak_row_id"] == 1


@pytest.mark.parametrize(
    ("used", "slices", "decision"), [(4, 4, "insufficient"), (5, 10, "review"), (5, 26, "insufficient"), (0, 10, "insufficient")]
)
def test_a_series_has_no_label_without_a_rule_and_few_used_slices_are_insufficient(used: int, slices: int, decision: str) -> None:
    row = one(*[{}] * used, slices=slices)
    assert (row["label"], row["confidence"], row["rule"], row["decision"]) == (None, None, None, decision)


def test_a_series_that_was_not_scored_has_nulls() -> None:
    row = one(selected=False, reason="localiser")
    assert (row["mean_glioma"], row["share_tumour"], row["longest_run"], row["peak_row_id"], row["decision"]) == (None,) * 5


def test_without_a_healthy_class_there_is_no_share_of_tumours() -> None:
    table = series_table(described({}), scores({}, {}), classes=CLASSES, healthy=None)
    assert table.to_pylist()[0]["share_tumour"] is None


def test_an_exam_shows_its_most_training_like_selected_series() -> None:
    series = [{"series_key": "far"}, {"series_key": "near"}, {"series_key": "out", "selected": False}]
    rows = [{"series_key": "far", "feature_distance": 5.0, **HEALTHY}] * 6 + [{"series_key": "near"}] * 6
    table = series_table(described(*series), scores(*rows), classes=CLASSES, healthy="notumor")
    exams = exams_table(table, classes=CLASSES)
    assert exams.schema.equals(exams_schema(CLASSES))
    (exam,) = exams.to_pylist()
    assert (exam["n_series"], exam["n_selected"], exam["series_key"]) == (3, 2, "near")
    assert exam["mean_glioma"] == pytest.approx(0.9)  # not averaged with the other weighting
    assert exam["label"] is None


def test_an_exam_without_a_selected_series_is_a_row() -> None:
    table = series_table(described({"selected": False}), [], classes=CLASSES, healthy="notumor")
    (exam,) = exams_table(table, classes=CLASSES).to_pylist()
    assert (exam["n_series"], exam["n_selected"], exam["series_key"]) == (1, 0, None)
