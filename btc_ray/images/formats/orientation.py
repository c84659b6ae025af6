"""Which way up a slice is shown: axial nose up and coronal head up, both with the patient's left on the right; sagittal head up, face left.

Pixels are turned and mirrored, never interpolated: an oblique slice is shown as the plane it is nearest to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

PLANES = ("sagittal", "coronal", "axial")  # by the body axis that the normal lies along

# Where the columns and the rows of an upright picture go, in DICOM's axes: x to the left, y to the back, z to the head.
_SHOWN = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
_SAME = 1.01  # spacings that differ by less than this are square
_MOST_RATIO = 12.0  # of the two spacings: beyond, one of them is wrong


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How a stored slice becomes an upright one: transposed first, then its rows reversed, then its columns."""

    plane: str
    oblique_deg: float
    transpose: bool
    rows: bool
    columns: bool


def directions_of(orientation: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The directions in which columns and rows are counted, as given (6,), and the unit normal on both: float64 (3,) each, in patient
    axes of DICOM. None where there are none, or they are no two directions at a right angle."""
    if orientation is None or len(orientation) != 6:
        return None
    across, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if not all(np.isfinite(length) and 0.9 < length < 1.1 for length in lengths) or abs(across @ down) > 0.1:
        return None
    normal = np.cross(across, down)
    return across, down, normal / np.linalg.norm(normal)


def turn_of(orientation: Sequence[float] | None) -> Turn | None:
    """The turn of a slice from the directions in which its columns and its rows are counted (6,), patient axes of DICOM.

    None where there are none, or they are no two directions at a right angle.
    """
    found = directions_of(orientation)
    if found is None:
        return None
    across, down, normal = found
    axis = int(np.argmax(np.abs(normal)))
    right, below = (np.asarray(way, float) for way in _SHOWN[PLANES[axis]])
    transpose = abs(across @ below) + abs(down @ right) > abs(across @ right) + abs(down @ below)
    if transpose:
        across, down = down, across
    return Turn(
        plane=PLANES[axis],
        oblique_deg=float(np.degrees(np.arccos(min(abs(normal[axis]), 1.0)))),
        transpose=bool(transpose),
        rows=bool(down @ below < 0),
        columns=bool(across @ right < 0),
    )


def turned(grey: np.ndarray, turn: Turn) -> np.ndarray:
    """A slice (H, W) turned upright, contiguous."""
    if turn.transpose:
        grey = grey.T
    if turn.rows:
        grey = grey[::-1]
    if turn.columns:
        grey = grey[:, ::-1]
    return np.ascontiguousarray(grey)


def squared(grey: np.ndarray, row_spacing: float | None, column_spacing: float | None, max_pixels: int) -> np.ndarray:
    """Make pixels square by enlarging the coarser way, uint8 (H, W); as they are where the spacings (mm) are equal, unknown or absurd."""
    if not row_spacing or not column_spacing or not np.isfinite(row_spacing / column_spacing):
        return grey
    ratio = row_spacing / column_spacing
    if max(ratio, 1 / ratio) < _SAME or max(ratio, 1 / ratio) > _MOST_RATIO or grey.size * max(ratio, 1 / ratio) > max_pixels:
        return grey
    height, width = grey.shape
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR))
