"""The canvas phantoms are painted on: its tissues, its brushes, its smooth noise, how deep a pixel lies in a shape.

Coordinates run from -1 to 1, x to the right and y downwards; brushes paint in place, on uint8 (GRID, GRID).
"""

from collections.abc import Sequence
from enum import IntEnum

import cv2
import numpy as np
from numpy.random import Generator

GRID = 288  # the canvas in pixels; its coordinates run from -1 to 1, x to the right and y downwards

Points = Sequence[tuple[float, float]]


class Tissue(IntEnum):
    """What a pixel of the canvas is made of; the order is the column order of the table of intensities."""

    AIR = 0
    FAT = 1
    BONE = 2
    MARROW = 3
    MUSCLE = 4
    MUCOSA = 5
    CSF = 6
    GREY = 7
    WHITE = 8
    VESSEL = 9
    OEDEMA = 10
    NECROSIS = 11
    GLIOMA = 12
    MENINGIOMA = 13
    ADENOMA = 14


def blob(canvas: np.ndarray, value: int, points: Points) -> None:
    """Fill the closed curve around `points`, its corners cut twice (Chaikin)."""
    curve = np.asarray(points, np.float64)
    for _ in range(2):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack((0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following), axis=1).reshape(-1, 2)
    cv2.fillPoly(canvas, [_fixed_point(curve)], int(value), shift=4)


def disc(canvas: np.ndarray, value: int, centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0) -> None:
    """Fill an ellipse, turned clockwise by `degrees`."""
    axes = _fixed_point(np.asarray(radii) - 1)
    cv2.ellipse(canvas, _fixed_point(np.asarray(centre)).tolist(), axes.tolist(), degrees, 0, 360, int(value), -1, shift=4)


def stroke(canvas: np.ndarray, value: int, points: Points, thickness: float) -> None:
    """Draw the open line through `points`; `thickness` in canvas units, at least one pixel."""
    pixels = max(1, round(thickness * GRID / 2))
    cv2.polylines(canvas, [_fixed_point(np.asarray(points))], isClosed=False, color=int(value), thickness=pixels, shift=4)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Canvas coordinates as int32 pixels with four fractional bits, as OpenCV draws them."""
    return np.round((points + 1) * (GRID / 2 * 16)).astype(np.int32)


def depth_inside(mask: np.ndarray) -> np.ndarray:
    """Float32 (GRID, GRID): how far inside `mask` a pixel lies, in canvas units."""
    return cv2.distanceTransform(np.ascontiguousarray(mask, np.uint8), cv2.DIST_L2, 3) * np.float32(2 / GRID)


def smooth_noise(rng: Generator, cells: int) -> np.ndarray:
    """Float32 (GRID, GRID) of about unit variance, with some `cells` hills across."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32) * 1.4  # interpolation takes away about 30 %
    return cv2.resize(coarse, (GRID, GRID), interpolation=cv2.INTER_CUBIC)
