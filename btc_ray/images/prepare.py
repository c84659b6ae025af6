"""Bytes → the square grey picture a model sees, by one function for training and for scoring.

Promises never to raise because of data: what is wrong with an image stands in its `Prepared`.
"""

import hashlib
import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePath
from typing import Any, Literal, get_args

import cv2
import numpy as np

from btc_ray.images.crop import Box, Crop, kaggle_crop, robust_crop
from btc_ray.images.decode import decode_shrunk, picture_of
from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.limits import MAX_PIXELS
from btc_ray.images.picture import ALGORITHM, Picture
from btc_ray.settings.job import CropMethod

__all__ = ["Prepared", "Preprocess", "prepare"]

LEAST_SIDE = 240  # px of a JPEG decoded at a part of its size: one and a half times what a head is looked for in


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image becomes what a model sees.

    Attributes:
        crop: how the head is found: "robust", "kaggle" (the data set author's method) or "none".
        size: side of the square in pixels.
        max_pixels: images with more are not decoded. A limit on memory: it changes no pixel, so it is not in the id.
        algorithm: which pixels, as `picture.ALGORITHM` has it.
    """

    crop: CropMethod = "robust"
    size: int = 224
    max_pixels: int = MAX_PIXELS
    algorithm: int = ALGORITHM

    def __post_init__(self) -> None:
        if self.crop not in get_args(CropMethod):
            raise ValueError(f"crop is {self.crop!r}; it can be {', '.join(get_args(CropMethod))}")
        for name, value, most in (
            ("size", self.size, 4096),
            ("max_pixels", self.max_pixels, 2**30),
            ("algorithm", self.algorithm, ALGORITHM),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 to {most:,}")

    @property
    def preprocess_id(self) -> str:
        """16 hex digits that are the same for, and only for, settings that give the same pixels."""
        content = {"algorithm": self.algorithm, "crop": self.crop, "size": self.size}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Read settings written by `to_dict`; those of before there was a second algorithm name none.

        Raises:
            ValueError: an unknown name (perhaps from a newer version) or an impossible value.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown preprocess settings {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**{"algorithm": 1, **values})


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of one image.

    Attributes:
        pixels: uint8 (size, size) where status is "ok", else None.
        status: "ok"; "unreadable" (broken bytes); "unsupported" (a kind not taken); "failed" (no memory, or an error
            of a program, whatever it was).
        error: why it is not ok, for a person.
        width, height: original size in pixels, upright; None where it was not decoded.
        box, crop_status, doubt: as in `crop.Crop`; None where it was not cropped.
        window_low, window_high: as in `picture.Picture`.
        picture: uint8, the whole picture as it was decoded, at a part of its size perhaps; None where it was not.
    """

    pixels: np.ndarray | None = None
    status: Literal["ok", "unreadable", "unsupported", "failed"]
    error: str | None = None
    width: int | None = None
    height: int | None = None
    box: Box | None = None
    crop_status: str | None = None
    doubt: float | None = None
    window_low: float | None = None
    window_high: float | None = None
    picture: np.ndarray | None = None


def prepare(data: bytes, preprocess: Preprocess, frame: int = 0) -> Prepared:
    """Decode one frame of an image file, cut the head out, and stretch it to a square.

    The crop is stretched to the square whatever its aspect, as in the data set author's script: heads become a little rounder
    or longer, alike in training and in scoring. Thread-safe.

    Args:
        data: a whole image file, of any format in `images.formats`.
        frame: which of its frames, from 0; picture files have one.
    """
    width = height = None
    try:
        picture = _decoded(data, preprocess, frame)
        width, height = picture.width, picture.height
        crop = _crop(picture.grey, preprocess.crop)
        if picture.grey.shape != (height, width) and min(crop.box.w, crop.box.h) < preprocess.size:
            picture = _whole(data, preprocess, frame)  # too small a head for a part of it
            crop = _crop(picture.grey, preprocess.crop)
        box = crop.box
        part = picture.grey[box.y : box.y + box.h, box.x : box.x + box.w]
        pixels = square(part, preprocess.size, halve=preprocess.algorithm > 1)
    except Unreadable as error:
        return Prepared(status="unreadable", error=str(error))
    except Unsupported as error:
        return Prepared(status="unsupported", error=str(error))
    except MemoryError:
        what = f"{width:,} × {height:,} pixels" if width else f"to decode this file of {len(data):,} bytes"
        return Prepared(status="failed", error=f"not enough memory {'for ' if width else ''}{what}", width=width, height=height)
    except Exception as error:  # noqa: BLE001
        # Whatever one image raises is that image's row: a run must not end for good by a file, and its message may quote the file.
        reason = f"this program failed on it ({_where(error)}); please report it with the file"
        return Prepared(status="failed", error=reason, width=width, height=height)
    return Prepared(
        pixels=pixels,
        status="ok",
        width=width,
        height=height,
        box=_in_file(box, picture),
        crop_status=crop.status,
        doubt=crop.doubt,
        window_low=picture.window_low,
        window_high=picture.window_high,
        picture=picture.grey,
    )


def _where(error: Exception) -> str:
    """Class and place of an error, without its message."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = "OpenCV's error" if isinstance(error, cv2.error) else type(error).__name__
    return f"{what}, {PurePath(place.filename).name} line {place.lineno}"


def _decoded(data: bytes, preprocess: Preprocess, frame: int) -> Picture:
    """The picture at the least of its sizes that shows as much as the model sees."""
    if preprocess.crop == "kaggle" or preprocess.algorithm < 2:  # the author's crop counts in pixels of the whole picture
        return _whole(data, preprocess, frame)
    # A head fills at least two thirds of most pictures' sides.
    least_side = max(preprocess.size * 3 // 2, LEAST_SIDE)
    limits = {"max_pixels": preprocess.max_pixels, "algorithm": preprocess.algorithm}
    return decode_shrunk(data, frame=frame, least_side=least_side, **limits)


def _whole(data: bytes, preprocess: Preprocess, frame: int) -> Picture:
    return picture_of(data, frame=frame, max_pixels=preprocess.max_pixels, algorithm=preprocess.algorithm)


def _in_file(box: Box, picture: Picture) -> Box:
    """A box of a picture at a part of its size in pixels of its file, where it ends at the picture's edge if it did."""
    rows, columns = picture.grey.shape
    if (rows, columns) == (picture.height, picture.width):
        return box
    across, down = picture.width / columns, picture.height / rows
    left, right = round(box.x * across), round((box.x + box.w) * across)
    top, bottom = round(box.y * down), round((box.y + box.h) * down)
    return Box(left, top, right - left, bottom - top)


def _crop(grey: np.ndarray, method: CropMethod) -> Crop:
    if method == "robust":
        return robust_crop(grey)
    if method == "kaggle":
        return kaggle_crop(grey)
    height, width = grey.shape
    return Crop(Box(0, 0, width, height), "full_frame: cropping is switched off", 0.0)


def square(grey: np.ndarray, size: int, *, halve: bool = True) -> np.ndarray:
    """Resize to uint8 (size, size): shrinking by area first, then enlarging linearly, for a long crop may need one of each.

    `halve`: what is at least twice as large both ways is halved first. That takes a fifth of the time of any other shrinking, and
    every pixel still counts, but for a last odd row or column.
    """
    while halve and min(grey.shape) >= 2 * size:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    height, width = grey.shape
    if width > size or height > size:
        # By area every pixel counts; linear would skip some. OpenCV's area is a plain mean only where no side grows.
        grey = cv2.resize(grey, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    if grey.shape != (size, size):
        grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.array(grey)  # a copy of its own: a view would keep the whole decoded image alive
