"""The page of exams: the most urgent first, each with its series and why they are not scored, and the slices of one in their order."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.reports.exams import page as exams_page
from btc_ray.reports.exams.page import write_exams
from btc_ray.studies.tables import exams_schema, series_schema

CLASSES = ("glioma", "notumor")
HEIGHT, WIDTH = 40, 80


def exam(name: str, *, share: float | None, **values: Any) -> dict[str, Any]:
    known = {
        "patient_key": f"p-{name}",
        "exam_number": 1,
        "n_selected": 1,
        "n_used": 6,
        "decision": "review",
        "series_key": f"s-{name}",
    }
    return {"exam_key": name, "share_tumour": share, **known, **values}


def series(name: str, key: str, **values: Any) -> dict[str, Any]:
    known = {"patient_key": f"p-{name}", "slices": 6, "plane": "axial", "selected": True, "share_tumour": 0.5, "n_used": 6}
    return {"exam_key": name, "series_key": key, **known, **values}


def slices(key: str, count: int = 4, first: int = 0) -> list[dict[str, Any]]:
    """Rows whose order is not that of the slices."""
    return [
        {"row_id": first + at, "uri": f"dicom:{key}#{at}", "series_key": key, "slice_index": count - 1 - at, "position_mm": 5.0 * at,
         "status": "ok", "error": None, "label": "glioma", "confidence": 0.9, "decision": "accept", "duplicate_of": None,
         "crop_x": 1, "crop_y": 1, "crop_w": 9, "crop_h": 9}
        for at in range(count)
    ]  # fmt: skip


def written(exams: list[dict[str, Any]], of: list[dict[str, Any]], rows: list[dict[str, Any]], read: Any = None) -> str:
    scores = pa.Table.from_pylist(rows)
    fields = {"duplicate_of": pa.int64(), "error": pa.string()}
    for name, kind in fields.items():
        scores = scores.set_column(scores.schema.get_field_index(name), name, scores[name].cast(kind))
    return write_exams(
        exams=pa.Table.from_pylist(exams, schema=exams_schema(CLASSES)),
        series=pa.Table.from_pylist(of, schema=series_schema(CLASSES)),
        scores=scores.to_batches(),
        read_image=read or (lambda row: np.full((HEIGHT, WIDTH), 90, np.uint8)),
    )


def order(page: str) -> list[str]:
    return re.findall(r"Patient <code>p-(\w+)", page)


def test_the_largest_share_of_tumour_stands_first_and_what_has_none_last() -> None:
    exams = [
        exam("low", share=0.1),
        exam("none", share=None, n_selected=0, series_key=None, decision=None),
        exam("few", share=1.0, decision="insufficient"),
        exam("high", share=0.8),
    ]
    page = written(exams, [series(one["exam_key"], f"s-{one['exam_key']}") for one in exams], slices("s-high"))
    assert order(page) == ["high", "low", "few", "none"]
    assert "1 of 4 has no scored series." in re.sub("<[^>]+>", "", page)


def test_an_exam_says_of_each_series_whether_and_why_it_is_not_scored() -> None:
    of = [series("a", "zz-local", selected=False, reason="localiser"), series("a", "s-a", selected_by="fallback")]
    page = written([exam("a", share=0.5)], of, slices("s-a"))
    assert page.index(">s-a<") < page.index(">zz-local<")
    assert "no: localiser" in page
    assert "for want of a better one" in page


def test_slices_stand_in_their_order_and_in_their_own_aspect() -> None:
    page = written([exam("a", share=0.5)], [series("a", "s-a")], [*slices("s-other", first=10), *slices("s-a")])
    assert re.findall(r'alt="slice (\d+)"', page) == ["0", "1", "2", "3"]
    assert f'width="{WIDTH}" height="{HEIGHT}"' in page
    assert 'tabindex="0"' in page


def test_of_many_slices_every_second_is_shown_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exams_page, "MOST_SLICES", 3)
    page = written([exam("a", share=0.5)], [series("a", "s-a")], slices("s-a", 6))
    assert re.findall(r'alt="slice (\d+)"', page) == ["0", "2", "4"]
    assert "one of 2 shown" in page


def test_a_slice_that_cannot_be_shown_says_why_and_no_text_is_markup() -> None:
    def fail(row: Mapping[str, Any]) -> bytes:
        raise OSError("<b>gone</b>")

    rows = slices("s-a", 2)
    rows[0] |= {"status": "unreadable", "error": "cut <i>short</i>", "label": None, "confidence": None}
    page = written([exam("a", share=0.5)], [series("a", "s-a", weighting="<script>")], rows, fail)
    assert "&lt;b&gt;gone&lt;/b&gt;" in page
    assert "cut &lt;i&gt;short&lt;/i&gt;" in page
    assert "<script>" not in page
