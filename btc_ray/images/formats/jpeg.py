"""JPEG by libjpeg-turbo: grey at decode time, at a part of its size where that is enough, and nothing that it warned of as damaged.

Through simplejpeg, which hands on libjpeg's warnings; Pillow drops them, so that half a picture looks like a whole one, and OpenCV
prints them. The pixels are the same as Pillow's. The GIL is released while pixels are decoded.
"""

import re

import numpy as np
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.jpeg_header import JpegHeader, bare, check_end, read_header
from btc_ray.images.formats.raster import grey_of, load, opened, upright
from btc_ray.images.limits import check_memory, check_size
from btc_ray.images.picture import Picture

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
# libjpeg's words where it filled up what it could not read.
_DAMAGE = ("premature end", "bad huffman code", "bad arithmetic code", "found marker")
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_ODD_BYTES = 2  # a byte or two before the end mark are habits of encoders


def _sniff(head: bytes) -> bool:
    return head.startswith(b"\xff\xd8\xff")


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    return _decoded(data, max_pixels, None)


def _decode_shrunk(data: bytes, frame: int, *, least_side: int, max_pixels: int, algorithm: int) -> Picture:
    """Libjpeg computes the low frequencies of each block of 8 × 8 alone, which is as good as shrinking the whole picture by area and
    leaves a quarter or less of the pixels to everything that follows."""
    return _decoded(data, max_pixels, least_side)


def _decoded(data: bytes, max_pixels: int, least_side: int | None) -> Picture:
    header = read_header(data)
    width, height = header.width, header.height
    check_size(width, height, max_pixels)
    _check_kind(header, max_pixels)
    end = check_end(data, header, max_pixels)
    grey = upright(_pixels(data, header, end, _shrink(header, least_side)), header.orientation)
    if header.orientation >= 5:
        width, height = height, width
    return Picture(grey=grey, width=width, height=height)


def _check_kind(header: JpegHeader, max_pixels: int) -> None:
    if header.bits != 8:
        raise Unsupported(f"a JPEG of {header.bits} bits is not taken; save it as 16-bit PNG")
    if len(header.components) not in _MODES:
        raise Unsupported(f"a JPEG of {len(header.components)} colour channels is not taken; save it as 8-bit grey PNG")
    needed = header.width * header.height * (5 if len(header.components) == 4 else 1)
    if header.in_several_scans:
        needed += 128 * sum(header.blocks.values())  # all coefficients are kept, 2 bytes each
    check_memory(needed, f"this JPEG of {header.width:,} × {header.height:,} pixels", max_pixels)


def _shrink(header: JpegHeader, least_side: int | None) -> int:
    """8, 4, 2 or 1: to which part of its size the picture may be decoded."""
    if least_side is None or header.lossless:
        return 1
    most = min(header.width, header.height) // max(least_side, 8)
    return next((part for part in (8, 4, 2) if most >= part), 1)


def _pixels(data: bytes, header: JpegHeader, end: int, shrink: int) -> np.ndarray:
    """Grey as stored, uint8 (H, W). What libjpeg says to `data` decides what is tried next; headers it finds odd are left out."""
    for content in (data, None):
        content = content or bare(data, header)
        try:
            return _turbo(content, header, shrink, strict=True)
        except ValueError as error:
            said = str(error).lower()
        if any(word in said for word in _DAMAGE):
            raise Unreadable("the JPEG breaks off or has a hole: some of its pixels are not there; copy it again from its source")
        if "extraneous bytes" in said:
            _check_surplus(said, data, end)
            return _turbo(content, header, shrink, strict=False)
        if "subsampling" in said:  # of a rare kind, which simplejpeg does not take
            break
    return _by_pillow(bare(data, header), header, shrink)


def _turbo(data: bytes, header: JpegHeader, shrink: int, *, strict: bool) -> np.ndarray:
    ink = len(header.components) == 4
    pixels = simplejpeg.decode_jpeg(
        data,
        "CMYK" if ink else "GRAY",
        fastdct=False,
        fastupsample=False,
        min_height=-(-header.height // shrink) if shrink > 1 else 0,
        min_width=-(-header.width // shrink) if shrink > 1 else 0,
        strict=strict,
    )
    if not ink:
        return np.asarray(pixels).reshape(pixels.shape[:2])
    if header.adobe:  # which stores ink inverted
        np.invert(pixels, out=pixels)
    return grey_of(Image.fromarray(pixels, "CMYK"))


def _check_surplus(said: str, data: bytes, end: int) -> None:
    """Bytes that no pixel asked for: padding, or the rest of a picture that lost its place behind a hole."""
    surplus = _SURPLUS.search(said)
    if surplus is not None:
        rest = data[end - min(int(surplus[1]), end) : end]
        if len(rest) <= _ODD_BYTES or len(set(rest)) == 1:
            return
    raise Unreadable("the JPEG has a hole: pixel data are left over at its end; copy it again from its source")


def _by_pillow(data: bytes, header: JpegHeader, shrink: int) -> np.ndarray:
    image = opened(JpegImageFile, data, "JPEG")
    image.draft("L", (max(1, header.width // shrink), max(1, header.height // shrink)))
    load(image)
    return grey_of(image)


def _mode(data: bytes) -> str:
    return _MODES.get(len(read_header(data).components), "")


JPEG = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    sniff=_sniff,
    frames=one_frame,
    decode=_decode,
    shrinks=_decode_shrunk,
    mode=_mode,
)
