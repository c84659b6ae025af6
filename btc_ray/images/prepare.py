"""Bytes → the square grey picture a model sees, by one function for training and for scoring.

Promises never to raise because of data: what is wrong with an image stands in its `Prepared`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import cv2
import numpy as np

from btc_ray.images.crop import Box, Crop, kaggle_crop, robust_crop
from btc_ray.images.decode import MAX_PIXELS, Unreadable, Unsupported, decode

__all__ = ["Prepared", "Preprocess", "prepare"]

ALGORITHM = 1
"""Raise by one whenever `decode`, a crop or the resizing gives other pixels for some image: models trained on the old ones
then refuse the new ones instead of scoring them a little wrong."""

CropMethod = Literal["robust", "kaggle", "none"]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image becomes what a model sees.

    Attributes:
        crop: how the head is found: "robust", "kaggle" (the data set author's method) or "none".
        size: side of the square in pixels.
        max_pixels: images with more are not decoded. A limit on memory: it changes no pixel, so it is not in the id.
    """

    crop: CropMethod = "robust"
    size: int = 224
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.crop not in get_args(CropMethod):
            raise ValueError(f"crop is {self.crop!r}; it can be {', '.join(get_args(CropMethod))}")
        for name, value, most in (("size", self.size, 4096), ("max_pixels", self.max_pixels, 2**30)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 to {most:,}")

    @property
    def preprocess_id(self) -> str:
        """16 hex digits that are the same for, and only for, settings that give the same pixels."""
        content = {"algorithm": ALGORITHM, "crop": self.crop, "size": self.size}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Read settings written by `to_dict`.

        Raises:
            ValueError: an unknown name (perhaps from a newer version) or an impossible value.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown preprocess settings {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of one image.

    Attributes:
        pixels: uint8 (size, size) where status is "ok", else None.
        status: "ok"; "unreadable" (broken bytes); "unsupported" (a kind not taken); "failed" (no memory, or OpenCV gave up).
        error: why it is not ok, for a person.
        width, height: original size in pixels, upright; None where it was not decoded.
        box, crop_status, doubt: as in `crop.Crop`; None where it was not cropped.
    """

    pixels: np.ndarray | None = None
    status: Literal["ok", "unreadable", "unsupported", "failed"]
    error: str | None = None
    width: int | None = None
    height: int | None = None
    box: Box | None = None
    crop_status: str | None = None
    doubt: float | None = None


def prepare(data: bytes, preprocess: Preprocess) -> Prepared:
    """Decode one image file, cut the head out, and stretch it to a square.

    The crop is stretched to the square whatever its aspect, as in the data set author's script: heads become a little rounder
    or longer, alike in training and in scoring. Thread-safe.

    Args:
        data: a whole image file, of any kind `decode` takes.
    """
    try:
        grey = decode(data, max_pixels=preprocess.max_pixels)
    except Unreadable as error:
        return Prepared(status="unreadable", error=str(error))
    except Unsupported as error:
        return Prepared(status="unsupported", error=str(error))
    except MemoryError:
        return Prepared(status="failed", error=f"not enough memory to decode this file of {len(data):,} bytes")
    height, width = grey.shape
    try:
        crop = _crop(grey, preprocess.crop)
        box = crop.box
        pixels = square(grey[box.y : box.y + box.h, box.x : box.x + box.w], preprocess.size)
    except MemoryError:
        return Prepared(status="failed", error=f"not enough memory for {width:,} × {height:,} pixels", width=width, height=height)
    except cv2.error as error:
        reason = f"OpenCV could not process the decoded image ({error.err or error}); please report it with the file"
        return Prepared(status="failed", error=reason, width=width, height=height)
    return Prepared(pixels=pixels, status="ok", width=width, height=height, box=box, crop_status=crop.status, doubt=crop.doubt)


def _crop(grey: np.ndarray, method: CropMethod) -> Crop:
    if method == "robust":
        return robust_crop(grey)
    if method == "kaggle":
        return kaggle_crop(grey)
    height, width = grey.shape
    return Crop(Box(0, 0, width, height), "full_frame: cropping is switched off", 0.0)


def square(grey: np.ndarray, size: int) -> np.ndarray:
    """Resize to uint8 (size, size): shrinking by area first, then enlarging linearly, for a long crop may need one of each."""
    height, width = grey.shape
    if width > size or height > size:
        # By area every pixel counts; linear would skip some. OpenCV's area is a plain mean only where no side grows.
        grey = cv2.resize(grey, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    if grey.shape != (size, size):
        grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.array(grey)  # a copy of its own: a view would keep the whole decoded image alive
