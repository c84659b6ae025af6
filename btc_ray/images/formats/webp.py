"""WebP: one still picture; animations are refused."""

import struct

from PIL.WebPImagePlugin import WebPImageFile

from btc_ray.images.errors import Unreadable, cut_short, several
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import mode_of, opened, plain
from btc_ray.images.limits import check_memory, check_size
from btc_ray.images.picture import Picture, whole

_BYTES_PER_PIXEL = 14  # two canvases of the library, Pillow's copies


def _sniff(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    width, height = read_webp(data)
    check_size(width, height, max_pixels)
    check_memory(width * height * _BYTES_PER_PIXEL, f"this WebP of {width:,} × {height:,} pixels", max_pixels)
    return whole(plain(opened(WebPImageFile, data, "WebP")))


def read_webp(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP from its first chunk.

    Raises:
        Unreadable: shorter than it says, or with an unknown first chunk.
        Unsupported: animated.
    """
    if len(data) < 30:
        raise cut_short("within the WebP header")
    if len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise cut_short("shorter than the WebP header says")
    first = data[12:16]
    if first == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if data[20] & 0b10:
            raise several(max(2, data.count(b"ANMF", 30)), "frames")
        return width, height
    if first == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if first == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Unreadable("the WebP file is damaged: its first chunk is unknown; copy it again from its source")


WEBP = Format(
    name="WebP", suffixes=(".webp",), sniff=_sniff, frames=one_frame, decode=_decode, mode=mode_of(WebPImageFile, "WebP")
)
