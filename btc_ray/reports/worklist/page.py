"""`review.html`: the worklist of a run as one page that sorts, filters and takes a reader's answers by itself, with nothing fetched from
anywhere."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from btc_ray.dataset.answers import COLUMNS, NOT_A_HEAD, UNSURE
from btc_ray.reports.shared.figures import jpeg, thumbnail
from btc_ray.reports.shared.page import PALETTE, as_source, render
from btc_ray.storage.redact import redact_values

SIDE = 112  # px, the longest side of a thumbnail: 2 to 3 kB
HEAT = (0, 94, 213)  # BGR: vermilion of Okabe and Ito
OPACITY = 150  # of 255, where the map is highest


def write_review(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML text.

    Args:
        record: what review.json holds.
        rows: the rows shown, in reading order: those of `worklist.parquet`, with `picture` and `heat`, the `src` of images or None,
            and `problem`, why there is no picture.
    """
    classes, columns = record["model"]["classes"], record["model"]["columns"]
    return render(
        "review.html.j2",
        filters={
            "share": lambda part, whole: f"{part / whole:.1%}" if whole else "–",
            "percent": lambda value: f"{value:.1%}",
        },
        record=record,
        rows=_script(_packed(rows, columns)),
        classes=_script(list(classes)),
        told=_script(
            {
                "run": record["run_id"],
                "model_id": record["model"]["model_id"],
                "not_a_head": NOT_A_HEAD,
                "unsure": UNSURE,
                "columns": COLUMNS,
            }
        ),
        shown=len(rows),
        palette=PALETTE,
    )


def small_picture(pixels: np.ndarray, *, side: int = SIDE) -> str:
    """The whole image as the `src` of an `img`, its longest side `side` px; uint8 (H, W)."""
    return as_source(jpeg(thumbnail(pixels, side=side), quality=72), "jpeg")


def heat_picture(heat: np.ndarray) -> str | None:
    """An activation map, float32 (h, w) from 0 to 1, as a picture of as many pixels that the browser enlarges; None where it is 0."""
    if not heat.any():
        return None
    image = np.empty((*heat.shape, 4), np.uint8)
    image[..., :3] = HEAT
    image[..., 3] = np.round(heat * OPACITY)
    encoded, data = cv2.imencode(".png", image)
    assert encoded, heat.shape
    return as_source(data.tobytes(), "png")


def _packed(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as the page's script reads them: short names, rounded numbers, crop box in per cent of the image."""
    packed = []
    for number, row in enumerate(rows):
        box = [row[f"crop_{name}"] for name in "xywh"]
        sides = (row["width"], row["height"]) * 2
        whole = any(value is None for value in (*box, *sides))
        packed.append(
            {
                "n": number,
                "id": row["row_id"],
                "u": row["uri"],
                "x": row["content_sha256"],
                "l": row["label"],
                "s": _rounded(row["suspicion"]),
                "c": _rounded(row["confidence"]),
                "p": [_rounded(row[name]) for name in columns],
                "d": _rounded(row["feature_distance"]),
                "k": row["decision"],
                "t": row["tier"],
                "r": row.get("drawn"),
                "f": row["crop_status"],
                "i": row["picture"],
                "h": row["heat"],
                "e": row["problem"],
                "b": None if whole else [round(100 * part / side, 2) for part, side in zip(box, sides, strict=True)],
                "a": None if whole else round(row["width"] / row["height"], 4),
            }
        )
    return packed


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _script(value: Any) -> Markup:
    """JSON that may stand in a `script` element, whatever a file name holds."""
    text = json.dumps(redact_values(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028"))
