"""Bytes → one grey picture, by the format that the file's own bytes name: see `images.formats`.

Promises a whole picture or an `ImageError` that says why, never a part of a picture and never a word of the file.
"""

import numpy as np

from btc_ray.images.errors import ImageError, Unreadable, Unsupported
from btc_ray.images.formats import HEAD, Format, sniff
from btc_ray.images.formats.foreign import refuse
from btc_ray.images.limits import MAX_PIXELS
from btc_ray.images.picture import ALGORITHM, Picture

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "Picture",
    "Unreadable",
    "Unsupported",
    "decode",
    "decode_shrunk",
    "format_of",
    "picture_of",
]


def decode(data: bytes, *, frame: int = 0, max_pixels: int = MAX_PIXELS, algorithm: int = ALGORITHM) -> np.ndarray:
    """Decode one frame of an image file to grey: uint8 (H, W), contiguous, upright. As `picture_of`, without the rest."""
    return picture_of(data, frame=frame, max_pixels=max_pixels, algorithm=algorithm).grey


def picture_of(data: bytes, *, frame: int = 0, max_pixels: int = MAX_PIXELS, algorithm: int = ALGORITHM) -> Picture:
    """Decode one frame, counted from 0, of an image file.

    8-bit pictures keep their values (colour becomes ITU-R 601 luma, alpha is dropped). Deeper ones (16 or 32 bit, signed, float) are
    stretched between their own 0.5 and 99.5 percentiles, so that 12-bit MRI in a 16-bit container is not black, not even beside a
    burned-in letter at 65535; there NaN and -inf become 0 and +inf becomes 255. EXIF and TIFF orientation is followed. Thread-safe;
    the GIL is released while pixels are decoded.

    Raises:
        Unreadable: the bytes are broken, wherever they are cut or damaged in a way that can be told.
        Unsupported: a sound file that is not taken: another format, several frames or pages, more than `max_pixels` pixels.
    """
    return format_of(data).decode(data, frame, max_pixels=max_pixels, algorithm=algorithm)


def decode_shrunk(
    data: bytes, *, least_side: int, frame: int = 0, max_pixels: int = MAX_PIXELS, algorithm: int = ALGORITHM
) -> Picture:
    """As `picture_of`, but at a half, a quarter or an eighth of its size where the format has a shortcut to it, as JPEG does, and no
    side falls below `least_side` pixels. Raises what `picture_of` raises."""
    found = format_of(data)
    if found.shrinks is None:
        return found.decode(data, frame, max_pixels=max_pixels, algorithm=algorithm)
    return found.shrinks(data, frame, least_side=least_side, max_pixels=max_pixels, algorithm=algorithm)


def format_of(data: bytes) -> Format:
    """The format of a whole file, whatever it is called.

    Raises:
        Unreadable: the file is empty, text, or nothing known.
        Unsupported: it is a known kind of file that is not taken.
    """
    return sniff(data[:HEAD]) or refuse(data)
