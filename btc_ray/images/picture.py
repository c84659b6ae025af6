"""What decoding gives: one grey picture, upright, and how its file's numbers became grey levels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ALGORITHM = 2
"""Raise by one whenever decoding, a crop or the resizing gives other pixels for some image: models trained on the old ones then go
on with those, where they can still be made, or refuse, but never score a little wrong.

1: every picture is decoded whole and shrunk by area at once.
2: JPEG files that are large enough are decoded at a half, a quarter or an eighth, and pictures are halved before they are shrunk.
Pictures that are not at least twice as large as what the model sees have the same pixels in both.
"""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Picture:
    """One slice or photograph.

    Attributes:
        grey: uint8 (H, W), contiguous; at a part of its size perhaps, where that was asked for.
        width, height: of the whole picture in its file, upright, in pixels.
        window_low, window_high: the values of the file that became 0 and 255; None where the file holds grey levels already.
        plane: "axial", "coronal" or "sagittal", where the file tells; else None.
        oblique_deg: by how many degrees the slice is tilted against its plane, where the file tells.
        geometry: "affine" where the picture was turned by what its file says of space, "none" where a format that could say so does
            not, None for formats that cannot.
    """

    grey: np.ndarray
    width: int
    height: int
    window_low: float | None = None
    window_high: float | None = None
    plane: str | None = None
    oblique_deg: float | None = None
    geometry: Literal["affine", "none"] | None = None


def whole(grey: np.ndarray, *, window_low: float | None = None, window_high: float | None = None) -> Picture:
    """A picture that is all of its file, uint8 (H, W)."""
    return Picture(grey=grey, width=grey.shape[1], height=grey.shape[0], window_low=window_low, window_high=window_high)
