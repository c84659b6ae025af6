"""The elements of a DICOM header that are asked for, as text and numbers, whether they were scanned or read by pydicom: the same values.

Conversions that are a line are made here, since pydicom's take most of the time of a header; anything unusual about a value is left to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from struct import Struct
from typing import Any, Protocol

from btc_ray.images.formats.dicom_scan import Scan, Value, scan

IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
)  # fmt: skip
ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")  # how transfer syntaxes of compressed frames begin
CHARACTER_SET = 0x00080005
_NUMBERS = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<I"),
    "SL": Struct("<i"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}
_PLAIN_TEXT = frozenset({"CS", "DA", "TM", "DT", "AS", "UI"})
_WRITTEN_TEXT = frozenset({"LO", "SH"})
_ASCII_SETS = frozenset({"", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 6", "ISO 2022 IR 100"})  # where ASCII is ASCII
_PADDING = " \0"


class Elements(Protocol):
    """Elements by tag."""

    def __contains__(self, tag: int) -> bool: ...

    def text(self, tag: int) -> str | None:
        """The values as text, joined by a backslash; None where there is no such element. Raises whatever pydicom does for a value that
        cannot be converted."""

    def items(self, tag: int) -> "list[Elements]":
        """The items of a sequence, none where there is no such element."""

    def value(self, tag: int) -> Any:
        """As pydicom converts it; None where there is no such element."""


@dataclass(frozen=True)
class Parsed:
    """A dataset that pydicom read."""

    dataset: Any

    def __contains__(self, tag: int) -> bool:
        return tag in self.dataset

    def text(self, tag: int) -> str | None:
        """As `Elements`."""
        return _joined(self.value(tag))

    def items(self, tag: int) -> list[Elements]:
        """As `Elements`."""
        return [Parsed(item) for item in self.value(tag) or ()]

    def value(self, tag: int) -> Any:
        """As `Elements`."""
        return self.dataset[tag].value if tag in self.dataset else None


@dataclass(frozen=True)
class Scanned:
    """Values that were found by `scan` in `data`, converted when they are asked for."""

    data: bytes
    values: Mapping[int, Value]
    implicit: bool
    character_set: str

    def __contains__(self, tag: int) -> bool:
        return tag in self.values

    def text(self, tag: int) -> str | None:
        """As `Elements`."""
        found = self.values.get(tag)
        if found is None:
            return None
        vr = found.vr or standard_vr(tag)
        raw = self.data[found.start : found.end]
        if not raw:
            return ""
        if vr == "DS" or vr == "IS":
            if (text := _decimals(raw, int if vr == "IS" else float)) is not None:
                return text
        elif vr in _PLAIN_TEXT or (vr in _WRITTEN_TEXT and self.character_set in _ASCII_SETS):
            if raw.isascii() and b"\x1b" not in raw and not (b" \\" in raw or b"\0\\" in raw or b"\\ " in raw):
                text = raw.decode("ascii").rstrip(_PADDING)
                return text.strip() if vr == "UI" else text
        elif (number := _NUMBERS.get(vr)) is not None and len(raw) % number.size == 0:
            return "\\".join(str(value) for (value,) in number.iter_unpack(raw))
        return _joined(self.value(tag))

    def items(self, tag: int) -> list[Elements]:
        """As `Elements`."""
        found = self.values.get(tag)
        return [Scanned(self.data, item, self.implicit, self.character_set) for item in (found.items if found else None) or ()]

    def value(self, tag: int) -> Any:
        """As `Elements`."""
        return self._dataset[tag].value if tag in self.values else None

    @cached_property
    def _dataset(self) -> Any:
        """pydicom's dataset of the values, sequences left out."""
        from pydicom.charset import convert_encodings
        from pydicom.dataelem import RawDataElement
        from pydicom.dataset import Dataset
        from pydicom.tag import BaseTag

        raw: dict[Any, Any] = {}
        for tag, found in self.values.items():
            if found.items is None:
                value = self.data[found.start : found.end]
                raw[BaseTag(tag)] = RawDataElement(BaseTag(tag), found.vr, len(value), value, found.start, self.implicit, True)
        encodings = convert_encodings(self.character_set.split("\\") if self.character_set else None)
        dataset = Dataset(raw, parent_encoding=encodings)
        dataset.set_original_encoding(self.implicit, True, encodings)
        return dataset


@cache
def standard_vr(tag: int) -> str:
    """The value representation that the standard's dictionary gives a tag; empty where it does not know it."""
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return ""


@cache
def tag_of(keyword: str) -> Any:
    """The tag of a keyword of the standard: asking a dataset by keyword costs a search through the dictionary."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return Tag(tag_for_keyword(keyword) or 0)


def wanted_tags(keywords: Iterable[str], private: Iterable[int] = ()) -> dict[int, str]:
    """What `scan` is asked for: keywords and private tags, those that say whose a private group is, and the character set."""
    creators = {tag & 0xFFFF0000 | element for tag in private for element in range(0x10, 0x100)}
    tags = {CHARACTER_SET, *map(tag_of, keywords), *private, *creators}
    return {int(tag): standard_vr(int(tag)) for tag in tags}


def scanned(data: bytes, at: int, wanted: Mapping[int, str], *, implicit: bool) -> tuple[Scanned, Scan]:
    """The wanted elements of a dataset that begins at `at`, and where its pixels are. Raises NotPlainError and CutError."""
    found = scan(data, at, wanted, implicit=implicit)
    about = found.values.get(CHARACTER_SET)
    character_set = "" if about is None else data[about.start : about.end].decode("latin-1").strip(_PADDING)
    return Scanned(data, found.values, implicit, character_set), found


def _decimals(raw: bytes, kind: type[int] | type[float]) -> str | None:
    """Numbers written as text; None where one is none."""
    parts = raw.decode("latin-1").strip().rstrip(_PADDING).split("\\")
    try:
        for part in parts:
            kind(part)
    except ValueError:
        return None
    return "\\".join(part.strip() for part in parts)


def _joined(value: Any) -> str | None:
    if value is None:
        return None
    several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if several else str(value)
