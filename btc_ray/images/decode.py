"""Bytes → one grey picture: JPEG, PNG, BMP, TIFF and WebP of any bit depth and channel layout.

Promises a whole picture or an `ImageError` that says why, never a truncated picture. Nothing is printed on stderr, but for
damaged TIFF files: libtiff and OpenCV speak of those by themselves.
"""

import io
import struct
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from btc_ray.images.headers import (
    ImageError,
    Unreadable,
    Unsupported,
    check_jpeg_end,
    check_size,
    cut_short,
    identify,
    read_png,
    read_webp,
)
from btc_ray.images.tags import TiffPage, exif_orientation, read_tiff

__all__ = ["MAX_PIXELS", "ImageError", "Picture", "Unreadable", "Unsupported", "decode", "decode_shrunk"]

MAX_PIXELS = 8192 * 8192
"""Default limit: 67 million pixels, 67 MB grey, and below the 89 million at which Pillow starts to warn on stderr."""

# Everything Pillow's readers are seen to raise on damaged files. Only calls into Pillow stand inside the `try`s that use it.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class Picture(NamedTuple):
    """`grey` uint8 (H, W), contiguous; `width` and `height` of the picture in its file, upright, of which it may be a part."""

    grey: np.ndarray
    width: int
    height: int


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one image file to grey.

    8-bit pictures keep their values (colour becomes ITU-R 601 luma, alpha is dropped). Deeper ones (16 or 32 bit, signed,
    float) are stretched from their own smallest to their own largest value, so that 12-bit MRI in a 16-bit container is not
    black; there NaN and -inf become 0 and +inf becomes 255. EXIF and TIFF orientation is followed.

    JPEG comes through Pillow, grey at decode time: measured 2,500 images/s a core at 224 × 224 and 950 at 512 × 512. OpenCV
    does 4,500 and 1,150, but prints libjpeg's warnings about damaged files on stderr, and nothing can stop it.
    Thread-safe; the GIL is released while pixels are decoded.

    Returns:
        uint8 (H, W), contiguous.

    Raises:
        Unreadable: the bytes are broken, wherever they are cut or damaged in a way that can be told.
        Unsupported: a sound file that is not taken: another format, several frames or pages, more than `max_pixels` pixels.
    """
    kind = identify(data)
    if kind == "JPEG":
        return _jpeg(data, max_pixels, None).grey
    if kind == "PNG":
        return _png(data, max_pixels)
    if kind == "TIFF":
        return _tiff(data, max_pixels)
    if kind == "WebP":
        check_size(*read_webp(data), max_pixels)
        return _plain(_open(WebPImagePlugin.WebPImageFile, data, kind))
    return _bmp(data, max_pixels)


def decode_shrunk(data: bytes, *, least_side: int, max_pixels: int = MAX_PIXELS) -> Picture:
    """As `decode`, but JPEG comes at a half, a quarter or an eighth of its size, where no side falls below `least_side` pixels.

    Libjpeg then computes the low frequencies of each block of 8 × 8 alone, which is as good as shrinking the whole picture by
    area and leaves a quarter or less of the pixels to everything that follows. Raises what `decode` raises.
    """
    if identify(data) == "JPEG":
        return _jpeg(data, max_pixels, least_side)
    grey = decode(data, max_pixels=max_pixels)
    return Picture(grey, width=grey.shape[1], height=grey.shape[0])


def _bmp(data: bytes, max_pixels: int) -> np.ndarray:
    image = _open(BmpImagePlugin.BmpImageFile, data, "BMP")
    check_size(*image.size, max_pixels)
    for codec, extents, offset, args in image.tile:
        # Pillow does not miss the last row's padding; a file that ends within it is cut short all the same.
        if codec == "raw" and extents and isinstance(args, tuple) and len(data) < offset + args[1] * extents[3]:
            raise cut_short("BMP pixel data end early")
    return _plain(image)


def _jpeg(data: bytes, max_pixels: int, least_side: int | None) -> Picture:
    stream = io.BytesIO(data)
    image = _open(JpegImagePlugin.JpegImageFile, data, "JPEG", stream)
    check_size(*image.size, max_pixels)
    check_jpeg_end(data, stream.tell())  # Pillow stops reading where the scan begins
    width, height = image.size
    # libjpeg then skips the colour channels, half the time, and what a smaller picture does not need.
    image.draft("L", image.size if least_side is None else (least_side, least_side))
    grey = _plain(image)
    return Picture(grey, height, width) if _orientation(image) >= 5 else Picture(grey, width, height)


def _png(data: bytes, max_pixels: int) -> np.ndarray:
    header = read_png(data)
    check_size(header.width, header.height, max_pixels)
    image = _open(PngImagePlugin.PngImageFile, data, "PNG")
    if header.bit_depth < 16:
        return _plain(image)
    _load(image)
    values = np.asarray(image)
    # Pillow keeps 16 bits of plain grey only; of colour and grey with alpha it drops the lower 8.
    if values.ndim == 3:
        values = _opencv(data, "PNG")
    return _oriented(_stretched(_grey(values)), image)


def _tiff(data: bytes, max_pixels: int) -> np.ndarray:
    page = read_tiff(data)
    check_size(page.width, page.height, max_pixels)
    if not page.deep:
        return _plain(_open(TiffImagePlugin.TiffImageFile, data, "TIFF", what=str(page)), orient=False)
    values = _grey(_deep_tiff(data, page))
    grey = _stretched(values)
    return 255 - grey if page.white_is_zero else grey  # neither library inverts deep pixels


def _deep_tiff(data: bytes, page: TiffPage) -> np.ndarray:
    """Pixels of a deep TIFF as numbers, turned upright (both libraries follow TIFF's orientation by themselves)."""
    if (page.bits in (16, 32) and page.samples == 1 and not page.white_is_zero) or page.bits == 12:
        try:
            image = _open(TiffImagePlugin.TiffImageFile, data, "TIFF")
        except Unsupported:
            pass  # a layout that Pillow does not know and OpenCV may
        else:
            _load(image)
            values = np.asarray(image)
            # Pillow has no unsigned 32-bit mode and shows such numbers as signed.
            return values.view(np.uint32) if page.bits == 32 and page.number_type == "unsigned" else values
    # OpenCV reads these layouts, and complains on stderr about all others.
    if page.bits in (8, 16, 32, 64) and page.samples in (1, 3, 4) and not (page.number_type == "float" and page.bits < 32):
        return _opencv(data, "TIFF")
    raise Unsupported(f"a TIFF with {page} samples per pixel is not taken; export it as 8- or 16-bit grey")


def _open(
    reader: type[ImageFile.ImageFile], data: bytes, kind: str, stream: io.BytesIO | None = None, what: str = ""
) -> ImageFile.ImageFile:
    """Read the header with one of Pillow's readers; not `Image.open`, whose limits and warnings are global."""
    try:
        return reader(stream or io.BytesIO(data))
    except _PILLOW_ERRORS as error:
        if "cannot handle" in str(error) or "unknown pixel mode" in str(error) or "Unsupported" in str(error):
            detail = what or str(error).removeprefix("cannot handle ")
            raise Unsupported(f"a {kind} of a rare kind ({detail}) is not taken; save it as 8-bit grey PNG") from error
        raise Unreadable(f"the {kind} header is damaged ({error}); copy it again from its source") from error


def _load(image: ImageFile.ImageFile) -> None:
    try:
        image.load()
    except _PILLOW_ERRORS as error:
        if "truncated" in str(error) or "not enough image data" in str(error):
            raise cut_short(f"{image.format} pixel data end early") from error
        raise Unreadable(f"the {image.format} pixel data are damaged ({error}); copy it again from its source") from error


def _plain(image: ImageFile.ImageFile, *, orient: bool = True) -> np.ndarray:
    """Decode an image of at most 8 bits a channel to grey, upright."""
    _load(image)
    grey: Image.Image = image
    if image.mode == "LAB":
        grey = image.getchannel(0)
    elif image.mode in ("La", "RGBa", "PA"):
        grey = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}[image.mode]).convert("L")
    elif image.mode == "P":
        grey = image.convert("RGB").convert("L")  # straight to "L" would let transparency in
    elif image.mode != "L":
        grey = image.convert("L")
    pixels = np.asarray(grey)
    return _oriented(pixels, image) if orient else pixels


def _oriented(grey: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turn and mirror as the EXIF block says: (transpose, then flip rows, then flip columns)."""
    orientation = _orientation(image)
    if orientation >= 5:
        grey = grey.T
    if orientation in (3, 4, 7, 8):
        grey = grey[::-1]
    if orientation in (2, 3, 6, 7):
        grey = grey[:, ::-1]
    return np.ascontiguousarray(grey)


def _orientation(image: Image.Image) -> int:
    """1 to 8; from 5 on rows and columns change places."""
    exif = image.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def _opencv(data: bytes, kind: str) -> np.ndarray:
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Unreadable(f"the {kind} pixel data are damaged ({error.err}); copy it again from its source") from error
    if values is None:
        raise Unreadable(f"the {kind} pixel data are damaged; copy it again from its source")
    return np.asarray(values)


def _grey(values: np.ndarray) -> np.ndarray:
    """(H, W) as it is; (H, W, 3 or 4) in OpenCV's order BGR(A) → ITU-R 601 luma, float32."""
    if values.ndim == 2:
        return values
    return values[..., :3].astype(np.float32) @ np.array([0.114, 0.587, 0.299], np.float32)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Stretch numbers of any type from their smallest and largest finite value to 0 … 255; a constant picture becomes 0."""
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    if finite is not None and not finite.any():
        raise Unreadable("every pixel is NaN or infinite; export it again")
    seen = values if finite is None or finite.all() else values[finite]
    low, high = float(seen.min()), float(seen.max())
    if high == low:
        return np.zeros(values.shape, np.uint8)
    # Halves keep high - low finite for the largest doubles.
    scaled = (values.astype(np.float64) * 0.5 - low * 0.5) * (255 / (high * 0.5 - low * 0.5))
    return np.asarray(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).round().clip(0, 255).astype(np.uint8))
