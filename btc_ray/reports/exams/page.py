"""`exams.html` of a review: the exams of a run, those with the most tumour first; an exam opens to its series, and one of them to its
slices, in their order and in the aspect of their plane. Evidence and no verdict; pseudonyms and no names.

A page is at most SHOWN_EXAMS exams and SHOWN_SLICES pictures, however many there are, and says what it leaves out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.reports.shared.page import PALETTE, ReadImage, picture, render

SHOWN_EXAMS = 50
SHOWN_SLICES = 600  # in all, of about 10 kB
SIDE = 256  # px of a slice
MOST_SLICES = 60  # of one series; of more every second, third, … is shown
_SLICE = [
    "row_id", "series_key", "slice_index", "position_mm", "status", "error", "label", "confidence", "decision", "crop_x", "crop_y",
    "crop_w", "crop_h", "uri",
]  # fmt: skip


def write_exams(*, exams: pa.Table, series: pa.Table, scores: Iterable[pa.RecordBatch], read_image: ReadImage) -> str:
    """The page as HTML text.

    Args:
        exams, series: RUN/exams and RUN/series.
        scores: the rows of the run, in any order.
        read_image: the picture of a row of scores; whatever it raises becomes a placeholder with the reason.
    """
    shown = sorted(exams.to_pylist(), key=_urgency)[:SHOWN_EXAMS]
    each = min(MOST_SLICES, SHOWN_SLICES // max(1, len(shown)))
    slices = _slices(scores, [exam["series_key"] for exam in shown if exam["series_key"] is not None])
    of_exam: dict[str, list[dict[str, Any]]] = {}
    for row in series.to_pylist():
        of_exam.setdefault(row["exam_key"], []).append(row)
    for exam in shown:
        exam["series"] = sorted(of_exam.get(exam["exam_key"], []), key=lambda row: (not row["selected"], row["series_key"]))
        found = slices.get(exam["series_key"], [])
        exam["step"] = -(-len(found) // each) or 1
        exam["slices_in_all"] = len(found)
        exam["cards"] = [_card(row, read_image) for row in found[:: exam["step"]]]
    return render(
        "exams.html.j2",
        filters={"percent": lambda value: "–" if value is None else f"{value:.0%}", "mm": _mm, "short": lambda key: key[:8]},
        notice=NOT_FOR_DIAGNOSIS,
        palette=PALETTE,
        exams=shown,
        in_all=len(exams),
        rules=exams["rule"].drop_null().unique().to_pylist(),
        without=exams["n_selected"].to_pylist().count(0),
    )


def _urgency(exam: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sufficient evidence before insufficient, then the largest share of tumour; exams without a scored series last."""
    share = exam["share_tumour"]
    return not exam["n_selected"], exam["decision"] == "insufficient", -1.0 if share is None else -share, exam["exam_key"]


def _slices(scores: Iterable[pa.RecordBatch], keys: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each of the series `keys`, in order of the slices; an instance that was met before is shown once."""
    wanted = pa.array(keys, pa.string())
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in scores:
        if "series_key" not in batch.schema.names:
            continue
        table = pa.Table.from_batches([batch])
        table = table.filter(pc.and_(pc.is_in(table["series_key"], wanted), pc.is_null(table["duplicate_of"])))
        for row in table.select(_SLICE).to_pylist():
            found.setdefault(row["series_key"], []).append(row)
    return {key: sorted(rows, key=lambda row: (row["slice_index"], row["row_id"])) for key, rows in found.items()}


def _card(row: Mapping[str, Any], read_image: ReadImage) -> dict[str, Any]:
    box = tuple(row[f"crop_{name}"] for name in "xywh")
    if row["status"] != "ok":
        return {**row, "problem": row["error"]}
    return {**row, **picture(row, read_image, box=None if None in box else box, side=SIDE)}


def _mm(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} mm"
