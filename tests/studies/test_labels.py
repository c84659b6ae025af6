"""Labels of people laid upon slices: the most specific name wins, contradictions are counted, nothing is left out silently."""

from typing import Any

import pyarrow as pa
import pytest

from btc_ray.studies.labels import Labels, LabelsError, Slice, unlabelled

ONE = Slice(
    path="a/b/1.dcm",
    slice_index=3,
    identifiers={
        "sop_uid": "1.1",
        "series_uid": "1",
        "study_uid": "0",
        "patient_id": "P",
        "series_key": "k",
        "sub": "01",
        "ses": "2",
    },
)
OTHER = Slice(
    path="a/c/1.dcm", slice_index=0, identifiers={"sop_uid": "2.1", "series_uid": "2", "study_uid": "0", "patient_id": "P"}
)


def labels(*rows: dict[str, Any]) -> Labels:
    return Labels(pa.Table.from_pylist([dict.fromkeys(sorted({k for row in rows for k in row})) | row for row in rows]))


@pytest.mark.parametrize(
    "name",
    [
        {"path": "a/b/1.dcm"},
        {"path": "b/1.dcm"},
        {"path": "a/b"},
        {"path": "a/b/"},
        {"sop_uid": "1.1"},
        {"series_uid": "1"},
        {"series_key": "k"},
        {"study_uid": "0"},
        {"patient_id": "P"},
        {"sub": "01"},
        {"sub": "sub-01", "ses": "ses-2"},
    ],
)
def test_a_slice_is_named_by_path_uid_key_or_bids_name(name: dict[str, str]) -> None:
    (label,) = labels(name | {"label": "glioma"}).match([ONE]).labels
    assert label is not None
    assert label.label == "glioma"


def test_the_most_specific_name_wins() -> None:
    rows = [{"patient_id": "P", "label": "p"}, {"study_uid": "0", "label": "e"}, {"series_uid": "1", "label": "s"}]
    found = labels(*rows).match([ONE, OTHER])
    assert [label and label.label for label in found.labels] == ["s", "e"]
    assert found.unmatched == [0]
    path = [*rows, {"path": "a/b/1.dcm", "label": "f"}]
    assert labels(*path).match([ONE]).labels[0].label == "f"  # type: ignore[union-attr]


def test_sub_without_its_session_does_not_name_another_session() -> None:
    assert labels({"sub": "01", "ses": "9", "label": "x"}).match([ONE]).labels == [None]


def test_contradictions_are_an_error_with_their_count_and_no_value() -> None:
    with pytest.raises(LabelsError, match="1 of 2 slices") as refused:
        labels({"series_uid": "1", "label": "glioma"}, {"series_key": "k", "label": "SECRET"}).match([ONE, OTHER])
    assert "SECRET" not in str(refused.value)


def test_the_same_said_twice_is_no_contradiction() -> None:
    found = labels({"series_uid": "1", "label": "x"}, {"series_uid": "1", "label": "x"}).match([ONE])
    assert found.labels[0] is not None
    assert found.unmatched == []


def test_a_range_of_slices_names_both_its_ends() -> None:
    rows = [{"series_uid": "1", "label": "x", "first_slice": 2, "last_slice": 3}]
    slices = [Slice(path="p", slice_index=n, identifiers={"series_uid": "1"}) for n in range(5)]
    assert [label is not None for label in labels(*rows).match(slices).labels] == [False, False, True, True, False]


def test_unmatched_labels_and_unlabelled_series_are_listed() -> None:
    found = labels({"series_uid": "1", "label": "x"}, {"series_uid": "9", "label": "y"}).match([ONE, OTHER])
    assert found.unmatched == [1]
    assert unlabelled(["1", "2"], found) == ["2"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"series_uid": "1"}],
        [{"label": "x"}],
        [{"series_uid": "1", "label": ""}],
        [{"series_uid": None, "label": "x"}],
        [{"series_uid": "1", "label": "x", "first_slice": "two"}],
    ],
)
def test_a_table_that_says_nothing_is_refused(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(LabelsError, match="label"):
        labels(*rows)
