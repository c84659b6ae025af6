"""PNG of 1 to 16 bits: every chunk's checksum is compared before anything is decoded."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from btc_ray.images.errors import Unreadable, Unsupported, cut_short, several
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import deep, load, luma, mode_of, opened, plain, upright, with_opencv
from btc_ray.images.formats.tiff_tags import exif_orientation
from btc_ray.images.limits import PNG_CHUNKS, check_memory, check_size
from btc_ray.images.picture import Picture, whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class PngHeader:
    width: int
    height: int
    bit_depth: int
    channels: int  # 1 for a palette
    interlaced: bool
    orientation: int  # 1 to 8, as EXIF has it
    bare: bytes  # the same picture without remarks, profiles and EXIF, which readers take apart at length


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def _sniff(head: bytes) -> bool:
    return head.startswith(SIGNATURE)


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    header = read_png(data)
    check_size(header.width, header.height, max_pixels)
    deeper = header.bit_depth == 16
    # Pillow's picture and the grey one; of 16 bits with a copy of Pillow's, or with OpenCV's four channels and the luma.
    each = (17 if header.channels > 1 else 7) if deeper else (6 if header.channels == 4 else 5 if header.channels > 1 else 2)
    what = f"this PNG of {header.width:,} × {header.height:,} pixels"
    check_memory(header.width * header.height * each, what, max_pixels)
    if deeper and header.channels > 1:  # of which Pillow drops the lower 8 bits
        _check_pixels(header)
        return deep(upright(luma(with_opencv(header.bare, "PNG")), header.orientation), algorithm=algorithm)
    image = opened(PngImageFile, header.bare, "PNG")
    if deeper:
        load(image)
        return deep(upright(np.asarray(image), header.orientation), algorithm=algorithm)
    return whole(plain(image, orientation=header.orientation))


def read_png(data: bytes) -> PngHeader:
    """Walk all chunks of a PNG to its end mark, comparing every checksum, and return what they say.

    Raises:
        Unreadable: a chunk is missing, cut short or damaged.
        Unsupported: the file is animated (APNG), or has more chunks than `limits` has.
    """
    header: tuple[int, ...] | None = None
    orientation, has_pixels, at = 0, False, len(SIGNATURE)
    kept = [SIGNATURE]
    for count, (kind, body, end) in enumerate(_chunks(data)):
        if header is None:
            if kind != b"IHDR" or len(body) != 13:
                raise Unreadable("the PNG does not begin with its header; copy it again from its source")
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"acTL" and len(body) >= 4:
            frames = struct.unpack_from(">I", body)[0]
            if frames > 1:
                raise several(frames, "frames")
        elif kind == b"eXIf" and not orientation:
            orientation = exif_orientation(bytes(body))
        if count > PNG_CHUNKS:
            raise Unsupported(f"a PNG of more than {PNG_CHUNKS:,} chunks is not taken; save it again")
        if kind in _NEEDED and not (kind == b"PLTE" and has_pixels):  # pixel data end at any other chunk
            kept.append(data[at:end])
        has_pixels = has_pixels or kind == b"IDAT"
        at = end
        if kind == b"IEND":
            if not has_pixels:
                raise Unreadable("the PNG holds no pixel data; save it again")
            width, height, depth, colour, _, _, interlaced = header
            if colour not in _CHANNELS:
                raise Unreadable("the PNG header is damaged; copy it again from its source")
            return PngHeader(
                width=width,
                height=height,
                bit_depth=depth,
                channels=_CHANNELS[colour],
                interlaced=bool(interlaced),
                orientation=orientation or 1,
                bare=b"".join(kept),
            )
    raise cut_short("a PNG without its end mark")


_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# Adam7: the first column and row of each pass, and its steps.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _check_pixels(header: PngHeader) -> None:
    """Make sure that every row is there, with a filter that there is: else OpenCV shows what there is, and libpng speaks on stderr."""
    size = header.channels * header.bit_depth // 8
    inflated = _inflated(header.bare)
    kept = b""
    for left, top, across, down in _PASSES if header.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(header.width - left) // across), -(-(header.height - top) // down)
        stride = 1 + columns * size
        while columns > 0 and rows > 0:
            while len(kept) < stride:
                if not (more := next(inflated, b"")):
                    raise cut_short("PNG pixel data end early")
                kept += more
            whole_rows = min(rows, len(kept) // stride)
            if max(kept[: whole_rows * stride : stride]) > 4:
                raise Unreadable("the PNG pixel data are damaged; copy it again from its source")
            kept, rows = kept[whole_rows * stride :], rows - whole_rows
    if kept or next(inflated, b""):  # more than the header tells of
        raise Unreadable("the PNG pixel data are damaged; copy it again from its source")


def _inflated(data: bytes) -> Iterator[bytes]:
    """The pixel data without compression, in pieces of 1 MB at most."""
    inflate = zlib.decompressobj()
    try:
        for kind, body, _ in _chunks(data):
            rest = bytes(body) if kind == b"IDAT" else b""
            while rest and not inflate.eof:
                if piece := inflate.decompress(rest, 2**20):
                    yield piece
                rest = inflate.unconsumed_tail
        if not inflate.eof:
            raise cut_short("PNG pixel data end early")
    except zlib.error as error:
        raise Unreadable("the PNG pixel data are damaged; copy it again from its source") from error


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """(name, content, where the chunk ends)."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise cut_short("in the middle of a PNG chunk")
        # The checksum covers the chunk's name and body; zlib.crc32 runs at over 1 GB/s, so this costs next to nothing.
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Unreadable(f"the PNG is damaged: the checksum at byte {end - 4:,} is wrong; copy it again from its source")
        yield kind, view[at + 8 : end - 4], end
        at = end


PNG = Format(name="PNG", suffixes=(".png",), sniff=_sniff, frames=one_frame, decode=_decode, mode=mode_of(PngImageFile, "PNG"))
