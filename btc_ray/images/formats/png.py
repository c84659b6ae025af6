"""PNG of 1 to 16 bits: every chunk's checksum is compared before anything is decoded."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from btc_ray.images.errors import Unreadable, cut_short, several
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import deep, load, luma, opened, orientation, plain, upright, with_opencv
from btc_ray.images.limits import check_size
from btc_ray.images.picture import Picture, whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    width: int
    height: int
    bit_depth: int


def _sniff(head: bytes) -> bool:
    return head.startswith(SIGNATURE)


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    header = read_png(data)
    check_size(header.width, header.height, max_pixels)
    image = opened(PngImageFile, data, "PNG")
    if header.bit_depth < 16:
        return whole(plain(image))
    load(image)
    values = np.asarray(image)
    # Pillow keeps 16 bits of plain grey only; of colour and grey with alpha it drops the lower 8.
    if values.ndim == 3:
        values = with_opencv(data, "PNG")
    return deep(upright(luma(values), orientation(image)), algorithm=algorithm)


def read_png(data: bytes) -> PngHeader:
    """Walk all chunks of a PNG to its end mark, comparing every checksum, and return what its header says.

    Raises:
        Unreadable: a chunk is missing, cut short or damaged.
        Unsupported: the file is animated (APNG).
    """
    header: PngHeader | None = None
    has_pixels = False
    for kind, body in _chunks(data):
        if header is None:
            if kind != b"IHDR" or len(body) != 13:
                raise Unreadable("the PNG does not begin with its header; copy it again from its source")
            width, height, bit_depth = struct.unpack_from(">IIB", body)
            header = PngHeader(width=width, height=height, bit_depth=bit_depth)
        elif kind == b"acTL" and len(body) >= 4:
            frames = struct.unpack_from(">I", body)[0]
            if frames > 1:
                raise several(frames, "frames")
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            if not has_pixels:
                raise Unreadable("the PNG holds no pixel data; save it again")
            return header
    raise cut_short("a PNG without its end mark")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise cut_short("in the middle of a PNG chunk")
        # The checksum covers the chunk's name and body; zlib.crc32 runs at over 1 GB/s, so this costs next to nothing.
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Unreadable(f"the PNG is damaged: the checksum at byte {end - 4:,} is wrong; copy it again from its source")
        yield kind, view[at + 8 : end - 4]
        at = end


def _mode(data: bytes) -> str:
    return PngImageFile(io.BytesIO(data)).mode


PNG = Format(name="PNG", suffixes=(".png",), sniff=_sniff, frames=one_frame, decode=_decode, mode=_mode)
