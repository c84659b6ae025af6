"""What a JPEG says before and between its scans: size, components, orientation, and whether every scan is there."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from btc_ray.images.errors import Unreadable, Unsupported, cut_short
from btc_ray.images.formats.tiff_tags import exif_orientation
from btc_ray.images.limits import JPEG_SCANS, JPEG_SEGMENTS, JPEG_VISITS_PER_PIXEL

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # frame headers; the three others are tables
_PROGRESSIVE = (0xC2, 0xCA)
_HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE)
_SOS, _EOI, _JPEG_LS, _EXIF, _JFIF, _ADOBE = 0xDA, 0xD9, 0xF7, 0xE1, 0xE0, 0xEE
# Ends a scan: within it FF is followed by 0, by a restart mark or by another FF.
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JFIF_SEGMENT = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One colour channel; `across` and `down` are its sampling factors, 1 to 4."""

    number: int
    across: int
    down: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegHeader:
    width: int
    height: int
    bits: int
    process: int  # the frame header's marker: C0 baseline, C1 extended, C2 progressive, C3 lossless …
    components: tuple[Component, ...]
    orientation: int
    adobe: bool
    scan: int  # where the first scan's header begins
    in_several_scans: bool  # so that its coefficients have to be kept until the last

    @property
    def progressive(self) -> bool:
        return self.process in _PROGRESSIVE

    @property
    def lossless(self) -> bool:
        return self.process in (0xC3, 0xCB)

    @property
    def blocks(self) -> dict[int, int]:
        """Blocks of 8 × 8 in each component, by its number."""
        most_across, most_down = max(one.across for one in self.components), max(one.down for one in self.components)
        return {
            one.number: -(-self.width * one.across // (8 * most_across)) * -(-self.height * one.down // (8 * most_down))
            for one in self.components
        }


def read_header(data: bytes) -> JpegHeader:
    """Walk the segments up to the first scan.

    Raises:
        Unreadable: the file ends within them, or they are damaged.
        Unsupported: JPEG-LS, a hierarchical JPEG.
    """
    frame: tuple[int, int] | None = None
    orientation, adobe = 0, False
    for marker, at, end in _segments(data, 2):
        if marker == _SOS:
            if frame is None or end - at < 6:
                raise _damaged("its scan has no header")
            return _header(data, *frame, orientation=orientation or 1, adobe=adobe, scan=at - 4)
        if marker in _SOF:
            if frame is not None:
                raise _damaged("it has two headers")
            frame = marker, at
        elif marker == _EXIF and not orientation and data[at : at + 6] == b"Exif\0\0":
            orientation = exif_orientation(data[at:end])
        elif marker == _ADOBE:
            adobe = adobe or data[at : at + 5] == b"Adobe"
        elif marker == _JPEG_LS:
            raise Unsupported("this is a JPEG-LS image, which is not taken; save it as PNG")
        if marker in _HIERARCHICAL:
            raise Unsupported("this is a hierarchical JPEG, which is not taken; save it as PNG")
    raise Unreadable("the JPEG ends before its picture begins; copy it again from its source")


def _header(data: bytes, process: int, at: int, *, orientation: int, adobe: bool, scan: int) -> JpegHeader:
    bits, height, width, count = struct.unpack_from(">BHHB", data, at)  # at least the scan's header stands behind it
    if not count or at + 6 + 3 * count > scan:
        raise _damaged("its header names no components")
    found = [struct.unpack_from("BBB", data, at + 6 + 3 * number) for number in range(count)]
    components = tuple(Component(number=number, across=factors >> 4, down=factors & 15) for number, factors, _ in found)
    if any(not (1 <= one.across <= 4 and 1 <= one.down <= 4) for one in components):
        raise _damaged("its header has impossible sampling factors")
    return JpegHeader(
        width=width,
        height=height,
        bits=bits,
        process=process,
        components=components,
        orientation=orientation,
        adobe=adobe,
        scan=scan,
        in_several_scans=process in _PROGRESSIVE or data[scan + 4] != count,
    )


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start of the content, end of it) from byte `at` on, up to and with the end mark."""
    for _ in range(JPEG_SEGMENTS):
        while data[at + 1 : at + 2] == b"\xff":  # fill bytes
            at += 1
        if at + 4 > len(data) and data[at : at + 2] != b"\xff\xd9":
            raise cut_short("within the JPEG header")
        if data[at] != 0xFF:
            raise _damaged("there is no marker where one is due")
        marker = data[at + 1]
        if marker == _EOI:
            yield marker, at + 2, at + 2
            return
        if 0xD0 <= marker <= 0xD7 or marker == 0x01:  # without content
            at += 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if end > len(data):
            raise cut_short("within the JPEG header")
        if end < at + 4 or marker in (0x00, 0xD8):
            raise _damaged("a marker is wrong")
        yield marker, at + 4, end
        at = end
    raise Unsupported(f"a JPEG of more than {JPEG_SEGMENTS:,} segments is not taken; save it again")


def _damaged(what: str) -> Unreadable:
    return Unreadable(f"the JPEG is damaged ({what}); copy it again from its source")


def check_end(data: bytes, header: JpegHeader, max_pixels: int) -> int:
    """Make sure that a JPEG goes on to its end, which is the end mark behind its last scan; returns where that stands.

    Looking behind the start of the scan matters: an EXIF thumbnail has an end mark of its own. Inside a scan FF is always escaped, so
    FF D9 is the true end there. Where a picture is made of several scans, a file cut between two of them lacks some: libjpeg would
    show what is there, without a word.

    Raises:
        Unreadable: no end mark, or not all of the scans.
        Unsupported: more scans, or more work in them, than `limits` has.
    """
    if not header.in_several_scans:
        end = data.find(b"\xff\xd9", header.scan)
        if end < 0:
            raise cut_short("a JPEG without its end mark")
        return end
    return _check_scans(data, header, max_pixels)


def _check_scans(data: bytes, header: JpegHeader, max_pixels: int) -> int:
    blocks = header.blocks
    # What grey is made of: all four inks, but of YCbCr the first component alone.
    shown = list(blocks) if len(blocks) == 4 else list(blocks)[:1]
    missing: dict[int, list[int | None]] = {number: [None] * 64 for number in shown}  # bits still to come, of each coefficient
    seen: set[int] = set()
    scans, visits, at = 0, 0, header.scan
    while True:
        marker, start, end = next(one for one in _segments(data, at) if one[0] in (_SOS, _EOI))
        if marker == _EOI:
            break
        scans += 1
        count = data[start]
        if end - start < 4 + 2 * count or not count:
            raise _damaged("a scan's header is wrong")
        numbers = [data[start + 1 + 2 * place] for place in range(count)]
        if not blocks.keys() >= set(numbers):
            raise _damaged("a scan is of a component that there is not")
        visits += sum(blocks[number] for number in numbers)
        seen.update(numbers)
        low, high, successive = data[end - 3 : end] if header.progressive else (0, 63, 0)
        for number in missing.keys() & set(numbers):
            missing[number][low : min(high, 63) + 1] = [successive & 15] * max(0, min(high, 63) + 1 - low)
        _check_work(scans, visits, max_pixels)
        found = _SCAN_END.search(data, end)
        if found is None:
            raise cut_short("a JPEG without its end mark")
        at = found.start()
    if seen != blocks.keys() or any(left != [0] * 64 for left in missing.values()):
        raise cut_short(f"after {scans} of the JPEG's scans")
    return start - 2


def _check_work(scans: int, visits: int, max_pixels: int) -> None:
    if scans > JPEG_SCANS:
        raise Unsupported(f"a JPEG of more than {JPEG_SCANS} scans is not taken; save it again")
    if 64 * visits > JPEG_VISITS_PER_PIXEL * max(max_pixels, 2**20):
        raise Unsupported(f"a JPEG that goes over its pixels in {scans} scans or more is too large for that; save it again")


def bare(data: bytes, header: JpegHeader) -> bytes:
    """The same picture without remarks, profiles and EXIF, of which readers warn, or which they take apart at length."""
    kept = [data[:2]]
    for marker, at, end in _segments(data, 2):
        if marker == _SOS:
            break
        if marker == _JFIF and data[at : at + 5] == b"JFIF\0":
            kept.append(_JFIF_SEGMENT)
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker == _ADOBE and data[at : at + 5] == b"Adobe"):
            kept.append(data[at - 4 : end])
    return b"".join([*kept, data[header.scan :]])
