"""Two tables of scores: every row finds its partner, and what changed is counted right."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.dataset as pads
import pytest

from btc_ray.reports.comparison.comparison import ChangedLabel, CompareError, Comparison, Difference, changes, compare_runs
from tests.scores import row, scores


def compared(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Comparison:
    return compare_runs(pads.dataset(scores(first)), pads.dataset(scores(second)))


def test_rows_in_both_and_in_one_run_are_counted_whatever_their_order() -> None:
    found = compared([row("/a/1"), row("/a/2"), row("/a/3")], [row("/a/9"), row("/a/3"), row("/a/1"), row("/a/8")])
    assert (found.matched_by, found.rows) == ("uri", (3, 4))
    assert (found.in_both, found.only_in_first, found.only_in_second, found.labels_changed) == (2, 1, 2, 0)


def test_a_row_that_occurs_twice_is_matched_in_order_of_row_id() -> None:
    first = [row("/a/1", "glioma", row_id=0), row("/a/1", "notumor", row_id=1), row("/a/2", row_id=2)]
    second = [row("/a/1", "notumor", row_id=7), row("/a/1", "glioma", row_id=5), row("/a/1", "glioma", row_id=9)]
    found = compared(first, second)
    assert (found.in_both, found.only_in_first, found.only_in_second, found.labels_changed) == (2, 1, 1, 0)


def test_an_archive_that_was_moved_is_matched_by_content() -> None:
    first = [row("/old/1", "glioma"), row("/old/2", None), row("/old/3"), row("/old/3")]
    second = [row("/new/3"), row("/new/2", None), row("/new/1", "notumor")]
    found = compared(first, second)
    assert found.matched_by == "content_sha256"
    assert (found.in_both, found.only_in_first, found.only_in_second) == (2, 2, 1)  # what has no content has no partner
    assert [change.uri for change in found.surest] == [("/old/1", "/new/1")]
    assert found.folders == {"/new": 1}


def test_runs_that_share_nothing_have_no_changes() -> None:
    for first, second in (([row("/a/1")], [row("/b/2")]), ([], [row("/b/2")]), ([], [])):
        found = compared(first, second)
        assert (found.in_both, found.only_in_first, found.only_in_second) == (0, len(first), len(second))
        assert (found.ok_in_both, found.labels_changed, found.surest, found.folders) == (0, 0, (), {})
        assert found.differences["confidence"] == Difference(mean=None, largest=None)


def test_changes_of_status_are_counted_and_their_labels_are_not() -> None:
    found = compared([row("/1"), row("/2", None), row("/3", None), row("/4")], [row("/1", None), row("/2"), row("/3"), row("/4")])
    assert changes(found.status) == [("unreadable", "ok", 2), ("ok", "unreadable", 1)]
    assert found.ok_in_both == 1
    assert found.label == {"glioma": {"glioma": 0, "notumor": 0}, "notumor": {"glioma": 0, "notumor": 1}}


def test_differences_are_those_of_rows_that_are_ok_in_both() -> None:
    first = [row("/1", "glioma", 0.75), row("/2", "glioma", 0.5), row("/3")]
    second = [row("/1", "notumor", 0.5), row("/2", "glioma", 0.5), row("/3", None)]
    found = compared(first, second)
    assert found.differences == {
        "confidence": Difference(mean=0.125, largest=0.25),
        "prob_glioma": Difference(mean=0.125, largest=0.25),
        "prob_notumor": Difference(mean=0.125, largest=0.25),
    }
    assert found.label["glioma"] == {"glioma": 1, "notumor": 1}


def test_changed_labels_are_shown_by_the_confidence_of_the_less_confident_run() -> None:
    sure = [(0.99, 0.6), (0.8, 0.9), *((0.55, 0.55) for _ in range(20))]
    first = [row(f"/{place}", "glioma", was) for place, (was, _) in enumerate(sure)]
    second = [row(f"/{place}", "notumor", now) for place, (_, now) in enumerate(sure)]
    found = compared(first, list(reversed(second)))
    assert [change.uri[0] for change in found.surest] == ["/1", "/0", *(f"/{place}" for place in range(2, 10))]
    assert found.surest[0] == ChangedLabel(
        uri=("/1", "/1"), label=("glioma", "notumor"), confidence=(pytest.approx(0.8), pytest.approx(0.9))
    )


def test_changed_labels_are_counted_by_folder_and_the_top_of_an_archive_is_one() -> None:
    places = {
        "/a/b": "/a/b/{}.png",
        "/a/b.zip": "/a/b.zip::{}.png",
        "/a/b.zip::c/d": "/a/b.zip::c/d/{}.png",
        "s3://x": "s3://x/{}",
    }
    uris = [where.format(number) for times, where in enumerate(places.values(), 1) for number in range(times)]
    uris += [f"/rare/{number:02d}/1.png" for number in range(10)]
    found = compared([row(uri, "glioma") for uri in uris], [row(uri, "notumor") for uri in uris])
    assert list(found.folders.items())[:4] == [("s3://x", 4), ("/a/b.zip::c/d", 3), ("/a/b.zip", 2), ("/a/b", 1)]
    assert (len(found.folders), found.folders_changed) == (10, 14)


def test_decisions_are_compared_where_both_runs_have_them() -> None:
    first = [row("/1", decision="accept"), row("/2", decision="accept"), row("/3", None, decision=None)]
    second = [row("/1", decision="review"), row("/2", decision="accept"), row("/3", decision="reject")]
    found = compared(first, second)
    assert found.decision is not None
    assert changes(found.decision) == [("accept", "review", 1), ("none", "reject", 1)]
    older = [row("/1"), row("/2"), row("/3")]
    assert compared(older, second).decision is None
    assert compared(older, second).one_sided == ("decision",)
    assert compared(older, older).one_sided == ()


def test_models_of_other_classes_are_compared_in_the_classes_they_share() -> None:
    found = compared([row("/1", "glioma")], [row("/1", "pituitary", prob_pituitary="")])
    assert found.one_sided == ("prob_pituitary",)
    assert list(found.differences) == ["confidence", "prob_glioma", "prob_notumor"]
    assert changes(found.label) == [("glioma", "pituitary", 1)]


def test_a_table_that_holds_no_scores_is_named() -> None:
    with pytest.raises(CompareError, match="'status' is missing"):
        compare_runs(pads.dataset(scores([row("/1")])), pads.dataset(scores([row("/1")]).drop_columns("status")))
