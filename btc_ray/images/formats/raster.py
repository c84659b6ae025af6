"""What the formats that Pillow reads share: opening, loading, grey, upright, and stretching of deep pixels."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageFile

from btc_ray.images.errors import Unreadable, Unsupported, cut_short
from btc_ray.images.formats.tiff_tags import exif_orientation
from btc_ray.images.picture import Picture, whole
from btc_ray.images.window import SHARE, window

# Everything Pillow's readers are seen to raise on damaged files. Only calls into Pillow stand inside the `try`s that use it.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


_BAND = 4_000_000  # pixels


def opened(reader: type[ImageFile.ImageFile], data: bytes, kind: str, what: str = "") -> ImageFile.ImageFile:
    """Read the header with one of Pillow's readers; not `Image.open`, whose limits and warnings are global."""
    try:
        return reader(io.BytesIO(data))
    except _PILLOW_ERRORS as error:
        if "cannot handle" in str(error) or "unknown pixel mode" in str(error) or "Unsupported" in str(error):
            detail = f" ({what})" if what else ""
            raise Unsupported(f"a {kind} of a rare kind{detail} is not taken; save it as 8-bit grey PNG") from error
        raise Unreadable(f"the {kind} header is damaged; copy it again from its source") from error


def load(image: ImageFile.ImageFile) -> None:
    """Decode the pixels of an image that was opened, with no word of Pillow's: it may quote the file."""
    try:
        image.load()
    except _PILLOW_ERRORS as error:
        if "truncated" in str(error) or "not enough image data" in str(error):
            raise cut_short(f"{image.format} pixel data end early") from error
        raise Unreadable(f"the {image.format} pixel data are damaged; copy it again from its source") from error


def plain(image: ImageFile.ImageFile, *, orientation: int | None = None) -> np.ndarray:
    """Decode an image of at most 8 bits a channel to grey, uint8 (H, W), upright; by its own EXIF block where nothing else is said."""
    load(image)
    return upright(grey_of(image), _orientation(image) if orientation is None else orientation)


def grey_of(image: Image.Image) -> np.ndarray:
    """Any of Pillow's modes → grey, uint8 (H, W); a band of rows at a time, since each copy of a large picture is a lot of memory."""
    width, height = image.size
    rows = max(1, _BAND // max(width, 1))
    try:
        if height <= rows:
            return np.asarray(_grey(image))
        grey = np.empty((height, width), np.uint8)
        for top in range(0, height, rows):
            band = image.crop((0, top, width, min(height, top + rows)))
            grey[top : top + rows] = np.asarray(_grey(band))
    except _PILLOW_ERRORS as error:  # a palette that is not one
        raise Unreadable("the image's colours are damaged; copy it again from its source") from error
    return grey


def mode_of(reader: type[ImageFile.ImageFile], kind: str) -> Callable[[bytes], str]:
    """A format's `mode`, as Pillow names it."""
    return lambda data: opened(reader, data, kind).mode


def _grey(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return image.getchannel(0)
    if image.mode in ("La", "RGBa", "PA"):
        return image.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}[image.mode]).convert("L")
    if image.mode == "P":
        return image.convert("RGB").convert("L")  # straight to "L" would let transparency in
    return image if image.mode == "L" else image.convert("L")


def _orientation(image: Image.Image) -> int:
    """What the EXIF block says, 1 to 8; from 5 on rows and columns change places."""
    exif = image.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def upright(grey: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror by an EXIF orientation: (transpose, then flip rows, then flip columns)."""
    if orientation >= 5:
        grey = grey.T
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    return np.ascontiguousarray(grey)


def with_opencv(data: bytes, kind: str) -> np.ndarray:
    """Decode with OpenCV what Pillow reduces to 8 bits: (H, W) or (H, W, 3 or 4) in the order BGR(A)."""
    _silence()
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable(f"the {kind} pixel data are damaged; copy it again from its source") from error
    if values is None:
        raise Unreadable(f"the {kind} pixel data are damaged; copy it again from its source")
    return np.asarray(values)


@cache
def _silence() -> None:
    """OpenCV writes on stderr what it finds damaged; it stands in the row's error instead."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def luma(values: np.ndarray) -> np.ndarray:
    """(H, W) as it is; (H, W, 3 or 4) in OpenCV's order BGR(A) → ITU-R 601 luma, float32."""
    if values.ndim == 2:
        return values
    found = np.empty(values.shape[:2], np.float32)
    for top in range(0, len(values), rows := max(1, _BAND // max(values.shape[1], 1))):
        with np.errstate(all="ignore"):  # NumPy warns on stderr of some NaN
            found[top : top + rows] = values[top : top + rows, :, :3].astype(np.float32) @ np.array(
                [0.114, 0.587, 0.299], np.float32
            )
    return found


def deep(values: np.ndarray, *, inverted: bool = False, algorithm: int) -> Picture:
    """A picture of more than 8 bits, (H, W) numbers of any type, brought to 8; `inverted`: its largest number is black.

    By percentiles; before `algorithm` 3 from the smallest to the largest finite value.
    """
    try:
        grey, low, high = window(values, share=0.0 if algorithm < 3 else SHARE)
    except ValueError as error:
        raise Unreadable("every pixel is NaN or infinite; export it again") from error
    return whole(np.subtract(255, grey, out=grey) if inverted else grey, window_low=low, window_high=high)
