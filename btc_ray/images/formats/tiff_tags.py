"""Directories of tags, as they stand in TIFF files and in EXIF blocks; a value is read only where it is asked for.

Read here and not by a library because libraries warn on stderr about damaged ones, and read every value of every tag: 5,000 tags that
share one value of 64 kB are 3 GB.
"""

import struct
from dataclasses import dataclass

import numpy as np

from btc_ray.images.errors import Unreadable, Unsupported, cut_short
from btc_ray.images.limits import TIFF_DIRECTORIES, TIFF_TAGS

ORIENTATION, SUBFILE = 274, 254
# TIFF type number → bytes of one value, and the NumPy letter of integers.
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 6: "i1", 8: "i2", 9: "i4", 17: "i8"}


@dataclass(frozen=True, slots=True)
class Tag:
    """Where the values of a tag stand."""

    kind: int
    count: int
    at: int

    @property
    def size(self) -> int:
        return self.count * _BYTES.get(self.kind, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """The tags of one picture, by number."""

    data: bytes
    order: str  # "<" or ">"
    tags: dict[int, Tag]

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag's values, as stored; empty where there is no such tag.

        Raises:
            Unreadable: they lie behind the end of the file.
        """
        found = self.tags.get(tag)
        if found is None:
            return b""
        if found.at + found.size > len(self.data):
            raise cut_short(f"the value of TIFF tag {tag} lies behind its end")
        return self.data[found.at : found.at + found.size]

    def numbers(self, tag: int, most: int) -> np.ndarray:
        """The first `most` values of a tag of whole numbers, int64; none where there is no such tag or it holds no numbers.

        Raises:
            Unreadable: they lie behind the end of the file.
        """
        found = self.tags.get(tag)
        letter = None if found is None else _INTEGERS.get(found.kind)
        if found is None or letter is None:
            return np.empty(0, np.int64)
        if found.at + found.size > len(self.data):
            raise cut_short(f"the value of TIFF tag {tag} lies behind its end")
        values = np.frombuffer(self.data, np.dtype(self.order + letter), min(found.count, most), found.at)
        if letter == "u8" and values.size and int(values.max()) > len(self.data):
            raise cut_short(f"TIFF tag {tag} points behind its end")
        return values.astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """The one value of a tag.

        Raises:
            Unreadable: it holds several, or it lies behind the end of the file.
        """
        found = self.tags.get(tag)
        if found is not None and found.count != 1:
            raise Unreadable(f"TIFF tag {tag} holds {found.count:,} values instead of one: the file is damaged; export it again")
        values = self.numbers(tag, 1)
        return int(values[0]) if values.size else default


def read_directories(data: bytes) -> list[Directory]:
    """Follow the chain of directories of a TIFF or BigTIFF file; of all but the first only what kind of picture they are is kept.

    Raises:
        Unreadable: a directory lies outside the file.
        Unsupported: more directories, or more tags in the first, than `limits` has.
    """
    order, big, at = _start(data)
    found: list[Directory] = []
    seen: set[int] = set()
    while at and at not in seen:  # a chain that bites its tail ends there
        if len(found) == TIFF_DIRECTORIES:
            raise Unsupported(f"holds more than {TIFF_DIRECTORIES:,} pages; export the slices as single images")
        seen.add(at)
        tags, at = _directory(data, at, order, big, only=(SUBFILE,) if found else None)
        found.append(Directory(data=data, order=order, tags=tags))
    return found


def exif_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of an EXIF block; 1 where it has none or is damaged (as viewers do)."""
    data = exif.removeprefix(b"Exif\0\0")
    try:
        order, big, at = _start(data)
        tags, _ = _directory(data, at, order, big, only=(ORIENTATION,))
        orientation = Directory(data=data, order=order, tags=tags).number(ORIENTATION, 1)
    except (Unreadable, Unsupported):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _start(data: bytes) -> tuple[str, bool, int]:
    """Byte order, whether it is a BigTIFF, and where the first directory is."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise Unreadable("the TIFF header is damaged; copy it again from its source")
    if len(data) < 8:
        raise cut_short("within the TIFF header")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    if big and len(data) < 16:
        raise cut_short("within the TIFF header")
    return order, big, struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]


def _directory(data: bytes, at: int, order: str, big: bool, *, only: tuple[int, ...] | None) -> tuple[dict[int, Tag], int]:
    """Its tags (or those of `only`), the first of each number, and where the next directory is."""
    entry, head, inline, word = ("HHQ", 12, 8, "Q") if big else ("HHI", 8, 4, "I")
    start = at + (8 if big else 2)
    if start > len(data):
        raise cut_short("its TIFF directory lies behind its end")
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    end = start + count * (head + inline)
    if end + inline > len(data):
        raise cut_short("in the middle of a TIFF directory")
    if count > TIFF_TAGS:
        raise Unsupported(f"a TIFF directory of {count:,} tags is not taken; export it again")
    tags: dict[int, Tag] = {}
    for at_entry in range(start, end, head + inline):
        tag, kind, length = struct.unpack_from(order + entry, data, at_entry)
        if tag in tags or (only is not None and tag not in only):
            continue
        size = length * _BYTES.get(kind, 1)
        place = at_entry + head
        tags[tag] = Tag(kind, length, place if size <= inline else struct.unpack_from(order + word, data, place)[0])
        if only is not None:
            break
    return tags, struct.unpack_from(order + word, data, end)[0]
