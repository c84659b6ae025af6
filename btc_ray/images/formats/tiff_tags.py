"""TIFF directories, as they stand in TIFF files and in EXIF blocks: sizes, sample types, pages, orientation.

Read here and not by a library because libraries warn on stderr about damaged ones, where this promises an error or a value.
"""

import struct
from dataclasses import dataclass

from btc_ray.images.errors import Unreadable, cut_short, several

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 273, 279, 324, 325
_SUBFILE, _COMPRESSION, _ROWS_PER_STRIP, _PLANES, _SAMPLE_FORMAT = 254, 259, 278, 284, 339
# Tags that hold one number by the standard. Several are damage, and would make Pillow warn on stderr.
_ONE_NUMBER = {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANES}
# TIFF type number → (struct letter, bytes). Others (ASCII, rationals) are never asked for here.
_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8), 13: ("I", 4), 8: ("h", 2), 9: ("i", 4)}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SAMPLE_NAMES = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex"}

Directory = dict[int, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class TiffPage:
    """The one picture of a TIFF file: its size, and how its numbers are to be read."""

    width: int
    height: int
    bits: int
    samples: int
    number_type: str
    white_is_zero: bool

    @property
    def deep(self) -> bool:
        """Whether its numbers are not plain 0 to 255 and have to be scaled."""
        return self.bits > 8 or self.number_type != "unsigned"

    def __str__(self) -> str:
        return f"{self.samples} × {self.bits} bit {self.number_type}"


def read_tiff(data: bytes) -> TiffPage:
    """Read the directories of a TIFF file (classic or BigTIFF) and check that its pixel data lie within the file.

    Raises:
        Unreadable: a directory or pixel data lie outside the file.
        Unsupported: more than one full page (previews and masks do not count).
    """
    pages = _directories(data)
    if not pages:
        raise Unreadable("the TIFF holds no image; export it again")
    first, *others = pages
    # Bit 0 of NewSubfileType marks a reduced copy, bit 2 a transparency mask: neither is a slice of its own.
    count = 1 + sum(not page.get(_SUBFILE, (0,))[0] & 0b101 for page in others)
    if count > 1:
        raise several(count, "pages")
    for offsets, sizes in ((_STRIP_OFFSETS, _STRIP_SIZES), (_TILE_OFFSETS, _TILE_SIZES)):
        # Some writers leave the sizes out of one-strip files; the decoder then judges for itself.
        for offset, size in zip(first.get(offsets, ()), first.get(sizes, ()), strict=False):
            if offset + size > len(data):
                raise cut_short("its TIFF pixel data lie behind its end")
    return TiffPage(
        width=_number(first, _WIDTH, 0),
        height=_number(first, _HEIGHT, 0),
        bits=max(first.get(_BITS, (1,)), default=1),
        samples=_number(first, _SAMPLES, 1),
        number_type=_SAMPLE_NAMES.get(_number(first, _SAMPLE_FORMAT, 1), "unsigned"),
        white_is_zero=_number(first, _PHOTOMETRIC, 1) == 0,
    )


def exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of an EXIF block; 1 where it has none or is damaged (as viewers do)."""
    try:
        pages = _directories(exif.removeprefix(b"Exif\0\0"), only_first=True)
    except Unreadable:
        return 1
    orientation = _number(pages[0], _ORIENTATION, 1) if pages else 1
    return orientation if 1 <= orientation <= 8 else 1


def _number(page: Directory, tag: int, default: int) -> int:
    return next(iter(page.get(tag, ())), default)


def _directories(data: bytes, *, only_first: bool = False) -> list[Directory]:
    """Follow the chain of directories; integers only, other types are passed over."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise Unreadable("the TIFF header is damaged; copy it again from its source")
    pages: list[Directory] = []
    seen: set[int] = set()
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        while at and at not in seen:  # a chain that bites its tail ends there
            seen.add(at)
            page, at = _directory(data, at, order, big)
            pages.append(page)
            if only_first:
                break
    except struct.error as error:
        raise cut_short("in the middle of a TIFF directory") from error
    return pages


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[Directory, int]:
    count_code, entry_code, next_code = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    inline = 8 if big else 4
    count = struct.unpack_from(order + count_code, data, at)[0]
    at += struct.calcsize(order + count_code)
    head = struct.calcsize(order + entry_code)
    page: Directory = {}
    for _ in range(count):
        tag, kind, length = struct.unpack_from(order + entry_code, data, at)
        if tag in _ONE_NUMBER and length != 1:
            raise Unreadable(f"TIFF tag {tag} holds {length:,} values instead of one: the file is damaged; export it again")
        size = length * _TYPE_BYTES.get(kind, 1)
        place = at + head if size <= inline else struct.unpack_from(order + ("Q" if big else "I"), data, at + head)[0]
        if place + size > len(data):
            raise cut_short(f"the value of TIFF tag {tag} lies behind its end")
        if kind in _TYPES:
            page[tag] = struct.unpack_from(f"{order}{length}{_TYPES[kind][0]}", data, place)
        at += head + inline
    return page, struct.unpack_from(order + next_code, data, at)[0]
