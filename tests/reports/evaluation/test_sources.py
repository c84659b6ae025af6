"""Images from elsewhere are measured by what their labels may mean, source by source, and errors among the accepted are counted."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.dataset.table import SCHEMA
from btc_ray.reports.evaluation.page import write_evaluation
from btc_ray.reports.evaluation.sources import Elsewhere, assess_sources, in_words
from tests.reports.evaluation.test_record import CLASSES, assessed, bundle
from tests.reports.summary.test_page import text_of


def table(*rows: tuple[str, str, str | None, str | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"row_id": number, "uri": uri, "label": label, "group": group, "source": source}
            for number, (uri, label, group, source) in enumerate(rows)
        ],
        schema=SCHEMA,
    )


def scored(*rows: tuple[str, str | None, str | None], sha: str = "") -> pa.Table:
    return pa.table(
        {
            "uri": [uri for uri, _, _ in rows],
            "status": ["ok" if label else "unreadable" for _, label, _ in rows],
            "label": [label for _, label, _ in rows],
            "decision": pa.array([decision for _, _, decision in rows], pa.string()),
            "content_sha256": [f"{sha}{uri}" for uri, _, _ in rows],
        }
    )


ASKED = Elsewhere.of(
    {
        "tumours": table(("/a", "tumor", None, None), ("/b", "glioma|pituitary", None, None), ("/c", "tumour", None, None)),
        "heads": table(("/d", "notumor", "p1", "site 1"), ("/e", "normal", "p1", "site 1"), ("/f", "glioma", None, "site 2")),
    }
)
SCORES = scored(
    ("/a", "glioma", "accept"),
    ("/b", "meningioma", "accept"),  # a tumour, and none of the two
    ("/c", "notumor", "review"),
    ("/d", "notumor", "accept"),
    ("/e", "glioma", "accept"),
    ("/f", None, None),
)


def found(**changed: Any) -> dict[str, dict[str, Any]]:
    return {one["source"]: one for one in assess_sources(ASKED, SCORES, bundle(), **changed)}


def test_tumours_of_unknown_kind_count_as_tumour_against_none() -> None:
    one = found()["tumours"]
    assert one["tumour_sensitivity"]["value"] == pytest.approx(2 / 3)
    assert one["accuracy"] == {"value": None, "low": None, "high": None, "reason": "no label is one class"}
    assert (one["accepted"], one["wrong_among_accepted"], one["error_among_accepted"]["value"]) == (2, 1, 0.5)
    assert one["called"] == {"glioma": 1, "meningioma": 1, "notumor": 1, "pituitary": 0}


def test_heads_without_a_tumour_give_specificity_and_accuracy() -> None:
    one = found()["heads: site 1"]
    assert one["specificity"]["value"] == one["accuracy"]["value"] == one["error_among_accepted"]["value"] == 0.5
    assert one["specificity"]["reason"] == "an interval by group needs at least two groups"  # both are of one patient
    assert one["tumour_sensitivity"]["reason"] == "no images"


def test_what_could_not_be_scored_or_was_trained_on_is_counted_and_not_measured() -> None:
    assert (found()["heads: site 2"]["not_ok"], found()["heads: site 2"]["measured"]) == (1, 0)
    one = found(trained_on=frozenset({"/a"}))["tumours"]
    assert (one["trained_on"], one["measured"], one["tumour_sensitivity"]["value"]) == (1, 2, 0.5)


def test_a_bundle_without_thresholds_has_no_errors_among_the_accepted() -> None:
    undecided = SCORES.set_column(3, "decision", pa.nulls(len(SCORES), pa.string()))
    one = assess_sources(ASKED, undecided, bundle())[-1]
    assert (one["accepted"], one["error_among_accepted"]["reason"]) == (None, "the bundle has no thresholds")


def test_a_model_of_other_classes_is_told_what_it_does_not_know() -> None:
    one = assess_sources(ASKED, SCORES, bundle(classes=("benign", "glioma")))[-1]
    assert one["labels_unknown_to_the_model"] == {"glioma|pituitary": 1, "tumor": 1, "tumour": 1}
    assert one["tumour_sensitivity"]["reason"] == "the model has no class without a tumour"


def test_groups_of_two_sets_are_not_one() -> None:
    both = Elsewhere.of(
        {"x": table(("/a", "tumor", "1", None)), "y": table(("/b", "tumor", "1", None), ("/c", "tumor", "1", None))}
    )
    assert both.group[0] != both.group[1] == both.group[2]


def test_the_page_has_a_row_for_each_source_and_a_line_says_the_same() -> None:
    record, _ = assessed()
    rows = assess_sources(ASKED, SCORES, bundle())
    model = record | {"external": rows, "by_source": []}
    whole = {"verdict": {"headline": "x", "text": "y"}, "models": [model], "facts": {}, "versions": {}, "settings": {}}
    text = " ".join(text_of(write_evaluation(whole, [], {})).split())
    assert "Other sources" in text
    assert "1 of 2" in text
    assert "By source" not in text
    assert in_words(rows[-1]) == "tumours: 3 images, tumour sensitivity 66.7%, 2 accepted, 1 of them wrong"
    assert np.all([name in text for name in ("heads: site 1", "heads: site 2", "tumours")])
    assert tuple(rows[0]["called"]) == CLASSES
