"""In which plane a slice was taken, estimated from the outline and symmetry of the head: trained on phantoms, whose plane is known.

What the estimate is worth on phantoms is measured on others; on real images it is a hint, to be looked at.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from btc_ray.images.phantom import LABELS, VIEWS, make_phantom
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.review.bootstrap import Figure, wilson

PHANTOMS, HELD_OUT = 360, 180  # to learn from, to measure on; 13 ms each
_SIDE = 32  # px
_GRID = 8


@dataclass(frozen=True, kw_only=True)
class PlaneModel:
    """Estimates planes; `accuracy` and `by_plane` (sensitivity of each of VIEWS) are of `HELD_OUT` phantoms that it did not see."""

    classifier: Any
    accuracy: Figure
    by_plane: dict[str, Figure]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """`plane_features` in, float64 (N, 3) out, in the order of VIEWS."""
        if not len(features):
            return np.zeros((0, len(VIEWS)))
        return np.asarray(self.classifier.predict_proba(features))


def plane_features(pixels: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """What tells planes apart and does not depend on grey levels: float32 (N, F).

    The shape of the head's box; where on a grid of 8 × 8 there is head at all; the outline row by row; and how alike the
    picture's left and right half are, mirrored: axial and coronal slices are nearly symmetric, sagittal ones are not.

    Args:
        pixels: uint8 (N, S, S), crops tight around the head.
        aspects: float (N,), width over height of each crop before it was stretched to a square.
    """
    return np.stack([_features(crop, float(aspect)) for crop, aspect in zip(pixels, aspects, strict=True)]) if len(pixels) else (
        np.zeros((0, 1), np.float32)
    )  # fmt: skip


def _features(crop: np.ndarray, aspect: float) -> np.ndarray:
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (5, 95))
    head = (small > low + 0.15 * max(high - low, 1)).astype(np.uint8)
    outlines = cv2.findContours(head, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    head = cv2.drawContours(np.zeros_like(head), outlines, -1, 1, cv2.FILLED).astype(np.float32)
    cell = _SIDE // _GRID
    grid = head.reshape(_GRID, cell, _GRID, cell).mean(axis=(1, 3))
    band = small.astype(np.float32)
    band = cv2.GaussianBlur(band, (0, 0), 1.0) - cv2.GaussianBlur(band, (0, 0), 5.0)
    symmetry = [_likeness(picture, picture[:, ::-1]) for picture in (band, head, band[: _SIDE // 2], band[_SIDE // 2 :])]
    upright = _likeness(head, head[::-1])
    # A face may look either way: the grid as it is, with its darker side on the left.
    facing = grid if grid[_GRID // 2 :, : _GRID // 2].sum() <= grid[_GRID // 2 :, _GRID // 2 :].sum() else grid[:, ::-1]
    widths = head.mean(axis=1).reshape(16, -1).mean(axis=1)
    shape = [np.log(np.clip(aspect, 0.2, 5.0)), upright, *symmetry]
    return np.concatenate([shape, widths, head.mean(axis=0)[[0, 1, -2, -1]], facing.ravel()]).astype(np.float32)


def _likeness(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-6 else 0.0


@functools.cache
def fit_planes(*, phantoms: int = PHANTOMS, held_out: int = HELD_OUT, seed: int = 0) -> PlaneModel:
    """Learn planes from phantoms of all classes and planes alike, and measure on others. The same numbers give the same model."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = phantoms + held_out
    planes = np.arange(count) % len(VIEWS)
    labels = [LABELS[number // len(VIEWS) % len(LABELS)] for number in range(count)]
    features = _of_phantoms(labels, planes, first_seed=1_000_000_007 + seed * count)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    classifier.fit(features[:phantoms], planes[:phantoms])
    asked, said = planes[phantoms:], classifier.predict(features[phantoms:])
    right = asked == said
    return PlaneModel(
        classifier=classifier,
        accuracy=wilson(int(right.sum()), len(right)),
        by_plane={
            name: wilson(int(right[asked == number].sum()), int((asked == number).sum())) for number, name in enumerate(VIEWS)
        },
    )


def _of_phantoms(labels: Sequence[str], planes: np.ndarray, *, first_seed: int) -> np.ndarray:
    preprocess = Preprocess(size=64)
    pixels, aspects = np.empty((len(labels), 64, 64), np.uint8), np.ones(len(labels))
    for number, (label, plane) in enumerate(zip(labels, planes, strict=True)):
        phantom = make_phantom(label, seed=first_seed + number, view=VIEWS[plane], size=(224, 224))
        encoded, data = cv2.imencode(".png", phantom.pixels)
        assert encoded
        prepared = prepare(data.tobytes(), preprocess)
        assert prepared.pixels is not None
        assert prepared.box is not None
        pixels[number], aspects[number] = prepared.pixels, prepared.box.w / prepared.box.h
    return plane_features(pixels, aspects)
