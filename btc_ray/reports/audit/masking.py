"""What a model does when it may not see the middle of the picture, where the lesions are, or nothing but the middle."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from btc_ray.reports.shared.bootstrap import wilson

SHARES = (0.3, 0.5, 0.7)  # of the side
MOST = 600  # images; seven passes of a network each
BATCH = 32  # images of a call


def without_centre(pixels: np.ndarray, share: float) -> np.ndarray:
    """The middle square of `share` of the side painted with each picture's own mean: uint8 (N, S, S) in and out."""
    masked = pixels.copy()
    low, high = _square(pixels.shape[1], share)
    masked[:, low:high, low:high] = _means(pixels)
    return masked


def centre_only(pixels: np.ndarray, share: float) -> np.ndarray:
    """Everything but the middle square painted with each picture's own mean: uint8 (N, S, S) in and out."""
    low, high = _square(pixels.shape[1], share)
    masked = np.broadcast_to(_means(pixels), pixels.shape).copy()
    masked[:, low:high, low:high] = pixels[:, low:high, low:high]
    return masked


def ask_masked(
    probabilities: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, labels: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """What a model says to whole and to masked crops.

    Args:
        probabilities: uint8 (N, S, S) in, float (N, C) out, in the order of `classes`.
        pixels: uint8 (N, S, S), crops as the model is given them.
        labels: N names; those that are no class of the model count as wrong.

    Returns:
        `images`, and `rows`: for the whole crop and each mask `kind` (whole, without_centre, centre_only), `share` of the side,
        `accuracy`, `unchanged` (the share of the answers that stay as for the whole crop), `confidence` (mean), `predicted` (counts).
    """
    names, truth = np.array(classes), np.array(labels)
    asked: list[tuple[str, float | None, np.ndarray]] = [("whole", None, pixels)]
    asked += [("without_centre", share, without_centre(pixels, share)) for share in SHARES]
    asked += [("centre_only", share, centre_only(pixels, share)) for share in SHARES]
    rows: list[dict[str, Any]] = []
    whole = np.zeros(0, np.int64)
    for kind, share, shown in asked:
        found = np.concatenate([probabilities(shown[start : start + BATCH]) for start in range(0, len(shown), BATCH)])
        said = found.argmax(axis=1)
        whole = said if kind == "whole" else whole
        rows.append(
            {
                "kind": kind,
                "share": share,
                "accuracy": wilson(int((names[said] == truth).sum()), len(truth)),
                "unchanged": wilson(int((said == whole).sum()), len(truth)),
                "confidence": float(found.max(axis=1).mean()),
                "predicted": {name: int((said == number).sum()) for number, name in enumerate(classes)},
            }
        )
    return {"images": len(truth), "rows": rows}


def _square(side: int, share: float) -> tuple[int, int]:
    width = round(side * share)
    low = (side - width) // 2
    return low, low + width


def _means(pixels: np.ndarray) -> np.ndarray:
    return pixels.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
