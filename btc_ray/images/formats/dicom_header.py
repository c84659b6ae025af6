"""A DICOM file's header → `DicomHeader`: plain numbers that decoding its frames needs, read once a file.

Values of a header are a patient's: error texts name what is missing, never what is written, and pydicom's warnings are silenced.
"""

import io
import logging
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from btc_ray.images.errors import ImageError, Unreadable, Unsupported, cut_short
from btc_ray.images.formats.dicom_elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    Elements,
    Parsed,
    scanned,
    tag_of,
    wanted_tags,
)
from btc_ray.images.formats.dicom_scan import PIXELS, UNDEFINED, CutError, NotPlainError, Scan

MOST_UNPACKED = 2**29
"""Bytes that a gzip or deflated file may grow to."""
MOST_FRAMES = 20_000

_FLOATS = {0x7FE00008: "f4", 0x7FE00009: "f8"}  # of which type the pixels are
_LONG = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "UT", "UC", "UR", "SQ", "SV", "UV"})
_DIRECTORY = "1.2.840.10008.1.3.10"
_RESCALED = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence")
_KEYWORDS = (
    "SOPClassUID", "ImageType", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "PixelSpacing", "PixelAspectRatio", "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *_RESCALED,
)  # fmt: skip


@cache
def _wanted() -> dict[int, str]:
    return wanted_tags(_KEYWORDS)


@dataclass(frozen=True, kw_only=True)
class FrameFacts:
    """Of one frame: number = stored × slope + intercept; mm from row to row and from column to column; directions (6,)."""

    slope: float
    intercept: float
    row_spacing: float | None
    column_spacing: float | None
    orientation: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class DicomHeader:
    """`data` are the file's bytes, unpacked; `start` and `length` of the pixel data in them, `length` None where they are fragments."""

    data: bytes
    syntax: str
    start: int
    length: int | None
    float_type: str
    vr: str | None
    frames: int
    rows: int
    columns: int
    samples: int
    planar: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    mosaic: bool
    per_frame: tuple[FrameFacts, ...]

    @property
    def big_endian(self) -> bool:
        return self.syntax == BIG_ENDIAN

    def facts(self, frame: int) -> FrameFacts:
        return self.per_frame[frame if len(self.per_frame) > 1 else 0]


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so (at least 132 bytes, or the whole) is DICOM, without its preamble or within gzip perhaps."""
    if head[:2] == b"\x1f\x8b":
        head = unpack(head, 400, partly=True)
    if head[128:132] == b"DICM":
        return True
    if len(head) < 12:
        return False
    for order in ("<", ">"):
        group, element = struct.unpack_from(f"{order}HH", head)
        if group in (2, 8) and element <= 0x0100:
            return head[4:6] in (b"UL", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM") or head[6:8] == b"\0\0" or head[4:6] == b"\0\0"
    return False


def unpack(data: bytes, most: int = MOST_UNPACKED, *, partly: bool = False, wbits: int = 31) -> bytes:
    """What a gzip file holds; `partly`: its first `most` bytes, or none.

    Raises:
        Unreadable: it is damaged, cut short, or grows beyond `most` bytes.
    """
    stream = zlib.decompressobj(wbits=wbits)
    try:
        found = stream.decompress(data, most)
    except zlib.error as error:
        if partly:
            return b""
        raise Unreadable("the compressed file is damaged; copy it again from its source") from error
    if partly:
        return found
    if stream.unconsumed_tail and not stream.eof:
        raise Unreadable(f"the compressed file grows beyond {most / 1e6:,.0f} MB; no single image does")
    if not stream.eof:
        raise cut_short("within its compression")
    return found


def quiet() -> None:
    """Silence pydicom, whose warnings and log lines print values."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")


def read_header(data: bytes) -> DicomHeader:
    """Read all but the pixels.

    Raises:
        Unreadable: damaged, cut short, or without what a picture needs.
        Unsupported: an object that holds no picture, or of a kind that is not taken.
    """
    quiet()
    if data[:2] == b"\x1f\x8b":
        data = unpack(data)
    try:
        return _read(data)
    except ImageError:
        raise
    except RecursionError as error:
        raise Unreadable("the DICOM sequences are nested too deeply; export it again") from error
    except Exception as error:  # pydicom raises whatever a damaged file leads it to, and its words may quote the file
        raise Unreadable(f"the DICOM header is damaged ({type(error).__name__}); copy it again from its source") from error


def _read(data: bytes) -> DicomHeader:
    data, at, syntax, sop_class = _meta(data)
    if at >= len(data):
        raise cut_short("nothing follows the DICOM file's own mark")
    elements: Elements
    try:
        if syntax == BIG_ENDIAN:
            raise NotPlainError
        elements, pixels = scanned(data, at, _wanted(), implicit=syntax == IMPLICIT)
    except (NotPlainError, CutError):
        elements, pixels = _parsed(data, at, syntax, sop_class)
    return _header(elements, data, syntax, pixels, _text(elements, "SOPClassUID") or sop_class)


def _parsed(data: bytes, at: int, syntax: str, sop_class: str) -> tuple[Elements, Scan]:
    """What `scanned` gives, by pydicom, of a dataset that is not plain. Raises as `read_header`."""
    from pydicom.filereader import read_dataset

    found: dict[str, Any] = {}
    stream = io.BytesIO(data)
    stream.seek(at)

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        if int(tag) in PIXELS:
            length_known = None if length == UNDEFINED else length
            found["pixels"] = Scan(values={}, tag=int(tag), vr=vr, start=stream.tell(), length=length_known)
        elif length != UNDEFINED and stream.tell() + length > len(data):
            found["cut"] = True
            return True
        return int(tag) in PIXELS or int(tag) > max(PIXELS)

    elements = Parsed(read_dataset(stream, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=stop))
    if "pixels" not in found:
        _without_pixels(elements, _text(elements, "SOPClassUID") or sop_class, cut="cut" in found)
    return elements, found["pixels"]


def _meta(data: bytes) -> tuple[bytes, int, str, str]:
    """The bytes (inflated where they are deflated), where the dataset begins, and its transfer syntax and SOP class."""
    at = 132 if data[128:132] == b"DICM" else 0
    syntax = sop_class = ""
    while data[at : at + 2] == b"\x02\x00" and at + 8 <= len(data):
        element = int.from_bytes(data[at + 2 : at + 4], "little")
        if data[at + 4 : at + 6].decode("latin-1") in _LONG:
            length, head = int.from_bytes(data[at + 8 : at + 12], "little"), 12
        elif data[at + 4 : at + 6].isalpha():
            length, head = int.from_bytes(data[at + 6 : at + 8], "little"), 8
        else:  # implicit, against the standard
            length, head = int.from_bytes(data[at + 4 : at + 8], "little"), 8
        if at + head + length > len(data):
            raise cut_short("within the DICOM header")
        value = data[at + head : at + head + length].rstrip(b"\0 ").decode("latin-1")
        if element == 0x0010:
            syntax = value
        elif element == 0x0002:
            sop_class = value
        at += head + length
    if sop_class == _DIRECTORY:
        raise Unsupported("a DICOMDIR is an index of other files and holds no picture")
    if syntax == DEFLATED:
        data, at = data[:at] + unpack(data[at:], wbits=-15), at
    if not syntax:
        big = data[at : at + 1] == b"\0"
        syntax = BIG_ENDIAN if big else EXPLICIT if data[at + 4 : at + 6].isupper() else IMPLICIT
    return data, at, syntax, sop_class


def _without_pixels(elements: Elements, sop_class: str, *, cut: bool) -> None:
    if cut:
        raise cut_short("within the DICOM header")
    if name := _holds_no_picture(sop_class):
        raise Unsupported(f"the DICOM object ({name}) holds no picture")
    if tag_of("Rows") not in elements and not sop_class:
        raise cut_short("the DICOM header ends before it names any pixels")
    raise Unreadable("the DICOM file has no pixel data: it is cut short, or they were taken out")


def _holds_no_picture(sop_class: str) -> str:
    """The name of an SOP class that is no image's, by the standard's dictionary; empty for images and for unknown ones."""
    from pydicom._uid_dict import UID_dictionary

    name = UID_dictionary.get(sop_class, ("",))[0]
    return "" if "Image Storage" in name and "Segmentation" not in name else name


def _header(ds: Elements, data: bytes, syntax: str, pixels: Scan, sop_class: str) -> DicomHeader:
    if name := _holds_no_picture(sop_class):
        raise Unsupported(f"the DICOM object ({name}) holds no picture")
    rows, columns = _whole(ds, "Rows", 0), _whole(ds, "Columns", 0)
    if rows <= 0 or columns <= 0:
        raise Unreadable("Rows or Columns is missing from the DICOM header; export it again")
    frames = _whole(ds, "NumberOfFrames", 1)
    if frames < 1 or frames > MOST_FRAMES:
        raise Unreadable(
            f"NumberOfFrames of the DICOM header is {'not positive' if frames < 1 else 'too large'}; export it again"
        )
    float_type = _FLOATS.get(pixels.tag, "")
    allocated = 8 * int(float_type[1]) if float_type else _whole(ds, "BitsAllocated", 0)
    stored = _whole(ds, "BitsStored", allocated) or allocated
    high_bit = _whole(ds, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise Unreadable("BitsAllocated, BitsStored and HighBit of the DICOM header contradict each other; export it again")
    if allocated == 1 or (allocated == 64 and not float_type):
        raise Unsupported(f"pixels of {allocated} bit are not taken; export it with 8, 16 or 32")
    signed = _whole(ds, "PixelRepresentation", 0) == 1
    samples = _whole(ds, "SamplesPerPixel", 1)
    if samples not in (1, 3):
        raise Unsupported("SamplesPerPixel of the DICOM header is neither 1 nor 3; save it as grey")
    return DicomHeader(
        data=data, syntax=syntax, start=pixels.start, length=pixels.length, float_type=float_type, vr=pixels.vr, frames=frames,
        rows=rows, columns=columns, samples=samples, planar=_whole(ds, "PlanarConfiguration", 0),
        photometric=_text(ds, "PhotometricInterpretation").upper(), allocated=allocated, stored=stored, high_bit=high_bit,
        signed=signed, padding=_padding(ds, stored), mosaic="MOSAIC" in _text(ds, "ImageType").upper(),
        per_frame=_per_frame(ds, frames),
    )  # fmt: skip


def _padding(ds: Elements, stored: int) -> tuple[int, int] | None:
    first = _number(ds, "PixelPaddingValue")
    if first is None:
        return None
    last = _number(ds, "PixelPaddingRangeLimit")
    ends = sorted((int(first), int(first if last is None else last)))
    return ends[0], ends[1]


def _per_frame(ds: Elements, frames: int) -> tuple[FrameFacts, ...]:
    """One record for all frames, or one for each where the file has groups of its own for them."""
    plain = _facts(ds)
    shared = _item(ds, "SharedFunctionalGroupsSequence")
    if shared is not None:
        plain |= _group(shared)
    own = ds.items(tag_of("PerFrameFunctionalGroupsSequence"))
    if not own:
        return (_record(plain),)
    return tuple(_record(plain | (_group(own[at]) if at < len(own) else {})) for at in range(frames))


def _facts(item: Elements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keyword in (("slope", "RescaleSlope"), ("intercept", "RescaleIntercept")):
        if (value := _number(item, keyword)) is not None:
            found[name] = value
    for keyword in ("PixelSpacing", "PixelAspectRatio"):
        if "spacing" not in found and (numbers := _numbers(item, keyword, 2)):
            found["spacing"] = numbers
    if directions := _numbers(item, "ImageOrientationPatient", 6):
        found["orientation"] = directions
    return found


def _group(group: Elements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in _RESCALED:
        if (item := _item(group, keyword)) is not None:
            found |= _facts(item)
    return found


def _record(found: dict[str, Any]) -> FrameFacts:
    row, column = found.get("spacing") or (None, None)
    return FrameFacts(
        slope=found.get("slope", 1.0),
        intercept=found.get("intercept", 0.0),
        row_spacing=row,
        column_spacing=column,
        orientation=found.get("orientation"),
    )


def _item(ds: Elements, keyword: str) -> Elements | None:
    return next(iter(ds.items(tag_of(keyword))), None)


def _text(ds: Elements, keyword: str) -> str:
    try:
        return (ds.text(tag_of(keyword)) or "").strip(" \0")
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 — a value that cannot be converted is one that is not there
        return ""


def _numbers(ds: Elements, keyword: str, count: int) -> tuple[float, ...] | None:
    text = _text(ds, keyword)
    try:
        values = tuple(float(part) for part in text.split("\\")) if text else ()
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _number(ds: Elements, keyword: str) -> float | None:
    found = _numbers(ds, keyword, 1)
    return found[0] if found and abs(found[0]) < 1e30 else None


def _whole(ds: Elements, keyword: str, default: int) -> int:
    found = _number(ds, keyword)
    return default if found is None else int(found)
