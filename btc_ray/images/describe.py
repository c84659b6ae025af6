"""What an image file is before anything is done to it: format, mode, size, and the grey levels of its whole frame; for audits."""

from dataclasses import dataclass

import cv2
import numpy as np

from btc_ray.images.decode import format_of
from btc_ray.images.errors import ImageError
from btc_ray.images.formats import Format

FRAME = 64  # px, the side of the small whole frame
BINS = 32  # of 8 grey levels each


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """One file.

    Attributes:
        format: JPEG, PNG, TIFF …, as `images.formats` has it.
        mode: how the file stores a pixel, as Pillow names it: L (grey), RGB, P (palette), I;16 …; empty where the format does not tell.
        brightness: mean grey level, 0 to 255.
        contrast: standard deviation of the grey levels.
        histogram: float32 (BINS,), the share of the pixels in each bin of grey levels.
        frame: uint8 (FRAME, FRAME), the whole frame, stretched.
    """

    format: str
    mode: str
    brightness: float
    contrast: float
    histogram: np.ndarray
    frame: np.ndarray


def describe(data: bytes, grey: np.ndarray) -> Description:
    """Describe a whole image file that was decoded to `grey`, uint8 (H, W), at a part of its size perhaps."""
    kind = format_of(data)
    mean, deviation = cv2.meanStdDev(grey)
    counts = cv2.calcHist([grey], [0], None, [BINS], [0, 256]).ravel()
    shrinks = min(grey.shape) >= FRAME
    return Description(
        format=kind.name,
        mode=_mode(kind, data),
        brightness=float(mean[0, 0]),
        contrast=float(deviation[0, 0]),
        histogram=(counts / grey.size).astype(np.float32),
        frame=np.asarray(cv2.resize(grey, (FRAME, FRAME), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)),
    )


def _mode(kind: Format, data: bytes) -> str:
    try:
        return "" if kind.mode is None else kind.mode(data)
    except ImageError:  # it was decoded; how it was stored is a detail
        return ""
