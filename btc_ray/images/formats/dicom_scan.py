"""Where the elements that are asked for lie in a plain DICOM dataset: found in a twentieth of the time that pydicom takes to read all.

Plain is little endian, in order, with value representations of the standard: nearly every file of an archive. Of anything else nothing is
found, and pydicom reads it, which knows what writers do against the standard and why a damaged file is damaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, error

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # FloatPixelData, DoubleFloatPixelData, PixelData
UNDEFINED = 0xFFFFFFFF

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SHORT = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # value representations whose length has two bytes
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_DEEPEST = 16  # sequences within sequences
_EXPLICIT, _IMPLICIT, _LENGTH = Struct("<HH2sH").unpack_from, Struct("<HHI").unpack_from, Struct("<I").unpack_from


class NotPlainError(Exception):
    """Not a plain dataset."""


class CutError(Exception):
    """The bytes end within it."""


@dataclass(frozen=True, slots=True)
class Value:
    """Of one element: its value representation, None where the file does not say; start and end of its bytes, or the items of a
    sequence."""

    vr: str | None
    start: int
    end: int
    items: tuple[Mapping[int, "Value"], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The elements asked for, by tag, and the element of the pixels: `length` None where it is fragments."""

    values: Mapping[int, Value]
    tag: int
    vr: str | None
    start: int
    length: int | None


def scan(data: bytes, at: int, wanted: Mapping[int, str], *, implicit: bool) -> Scan:
    """Walk a dataset from its first element at `at` to its pixels.

    Args:
        wanted: tags whose values are asked for, in sequences as well, each with the value representation that the standard gives it;
            sequences that are not among them are stepped over.

    Raises NotPlainError, and CutError where `data` end before the pixels begin.
    """
    try:
        values, end = _elements(data, at, len(data), wanted, implicit, 0)
        if end + 12 > len(data):
            raise CutError
        if implicit:
            group, element, length = _IMPLICIT(data, end)
            return Scan(values=values, tag=group << 16 | element, vr=None, start=end + 8, length=_defined(length))
        group, element, vr, _ = _EXPLICIT(data, end)
        if vr not in _LONG:
            raise NotPlainError
        length = _LENGTH(data, end + 8)[0]
        return Scan(values=values, tag=group << 16 | element, vr=vr.decode(), start=end + 12, length=_defined(length))
    except error as cut:
        raise CutError from cut


def scan_meta(data: bytes, wanted: Mapping[int, str]) -> tuple[Mapping[int, Value], int]:
    """The elements of a file's own header, and where its dataset begins. Raises NotPlainError and CutError."""
    if data[128:132] != b"DICM":
        raise NotPlainError
    values: dict[int, Value] = {}
    at = 132
    try:
        while data[at : at + 2] == b"\2\0":
            _, element, vr, length = _EXPLICIT(data, at)
            start = at + 8
            if vr in _LONG:
                length, start = _LENGTH(data, start)[0], start + 4
            elif vr not in _SHORT:
                raise NotPlainError
            at = start + length
            if 0x20000 | element in wanted:
                values[0x20000 | element] = Value(vr.decode(), start, at)
    except error as cut:
        raise CutError from cut
    if at >= len(data):
        raise CutError
    return values, at


def _beyond(data: bytes, end: int) -> Exception:
    """What it means that something reaches beyond `end`."""
    return CutError() if end == len(data) else NotPlainError()


def _defined(length: int) -> int | None:
    return None if length == UNDEFINED else length


def _elements(
    data: bytes, at: int, end: int, wanted: Mapping[int, str], implicit: bool, depth: int
) -> tuple[dict[int, Value], int]:
    """The wanted elements up to the pixels, the end of an item or `end`, and where that is."""
    found: dict[int, Value] = {}
    last = 0x0007FFFF if depth == 0 else 0
    first = True
    while at < end:
        if implicit:
            group, element, length = _IMPLICIT(data, at)
            start, vr = at + 8, b""
            if first and data[at + 4 : at + 6].isupper() and data[at + 4 : at + 6] in _SHORT | _LONG:
                raise NotPlainError  # explicit in truth
        else:
            group, element, vr, length = _EXPLICIT(data, at)
            start = at + 8
            if vr in _LONG:
                length = _LENGTH(data, start)[0]
                start += 4
            elif vr not in _SHORT and group != 0xFFFE:
                raise NotPlainError
        first = False
        tag = group << 16 | element
        if tag <= last:
            raise NotPlainError
        last = tag
        if group >= 0x7FE0:
            if tag in PIXELS and depth == 0:
                return found, at
            if tag == _ITEM_END and depth:
                return found, at + 8
            if tag != 0x7FE00001 and tag != 0x7FE00002:  # offsets and lengths of the frames
                raise NotPlainError
        if length == UNDEFINED:
            if vr not in (b"SQ", b""):
                raise NotPlainError
            items, at = _items(data, start, end, wanted if tag in wanted else None, implicit, depth + 1)
            if tag in wanted:
                if wanted[tag] != "SQ":
                    raise NotPlainError
                found[tag] = Value("SQ", start, at, tuple(items))
            continue
        at = start + length
        if at > end:
            raise _beyond(data, end)
        if tag not in wanted:
            continue
        if wanted[tag] == "SQ":
            if vr not in (b"SQ", b""):
                raise NotPlainError
            items, _ = _items(data, start, at, wanted, implicit, depth + 1)
            found[tag] = Value("SQ", start, at, tuple(items))
        else:
            found[tag] = Value(vr.decode() or None, start, at)
    if depth == 0:
        raise CutError
    return found, at


def _items(
    data: bytes, at: int, end: int, wanted: Mapping[int, str] | None, implicit: bool, depth: int
) -> tuple[list[Mapping[int, Value]], int]:
    """The items of a sequence to its end mark or `end`, and where that is; none are kept where `wanted` is None."""
    if depth > _DEEPEST:
        raise NotPlainError
    found: list[Mapping[int, Value]] = []
    while at < end:
        group, element, length = _IMPLICIT(data, at)
        tag = group << 16 | element
        at += 8
        if tag == _SEQUENCE_END:
            return found, at
        if tag != _ITEM:
            raise NotPlainError
        if length == UNDEFINED:
            values, at = _elements(data, at, end, wanted or {}, implicit, depth)
            if data[at - 8 : at - 4] != b"\xfe\xff\x0d\xe0":
                raise _beyond(data, end)
        elif at + length > end:
            raise _beyond(data, end)
        elif wanted is None:
            at += length
            continue
        else:
            values, stopped = _elements(data, at, at + length, wanted, implicit, depth)
            at += length
            if stopped != at:
                raise NotPlainError
        if wanted is not None:
            found.append(values)
    return found, at
