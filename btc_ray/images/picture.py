"""What decoding gives: one grey picture, upright, and how its file's numbers became grey levels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ALGORITHM = 3
"""Raise by one whenever decoding, a crop or the resizing gives other pixels for some image: models trained on the old ones then go
on with those, where they can still be made, or refuse, but never score a little wrong.

1: every picture is decoded whole and shrunk by area at once.
2: JPEG files that are large enough are decoded at a half, a quarter or an eighth, and pictures are halved before they are shrunk.
3: pictures of more than 8 bits are brought to 8 by the 0.5 and the 99.5 percentile, not by their smallest and largest value.
Pictures of 8 bits have the same pixels in 2 and 3, and in 1 too where they are not at least twice as large as what the model sees.
"""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Picture:
    """One slice or photograph.

    Attributes:
        grey: uint8 (H, W), contiguous; at a part of its size perhaps, where that was asked for.
        width, height: of the whole picture in its file, upright, in pixels.
        window_low, window_high: the file's values that were spread over 0 … 255; None where it holds grey levels of 8 bits.
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
