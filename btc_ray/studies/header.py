"""A DICOM file's header → index rows, one a frame. Nothing raises because of a file: what is wrong with it is its `problem`.

Error texts name what is missing, never what is written: values of a header are a patient's.
"""

import io
import math
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from btc_ray.images.formats.dicom_elements import (
    ENCAPSULATED,
    EXPLICIT,
    IMPLICIT,
    Elements,
    Parsed,
    Scanned,
    scanned,
    tag_of,
    wanted_tags,
)
from btc_ray.images.formats.dicom_header import quiet
from btc_ray.images.formats.dicom_scan import PIXELS, CutError, NotPlainError, scan_meta
from btc_ray.studies import vocabulary as words

HEAD = 352  # bytes that tell the kind of a file: a NIfTI header; DICOM's mark stands at 128
UNPACKED_LIMIT = 1 << 28  # bytes; a gzip member that gives more is a bomb or no single image
MOST_FRAMES = 20_000
# Bytes of a file that are looked at for its header before pydicom is asked: most, and those of many frames.
_HEADERS = (2**16, 2**22)
_B_VALUES = (0x0019100C, 0x00431039, 0x20011003)  # of Siemens, GE and Philips
_PLANE_TYPE = 0x00271035  # of GE
_META = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_OF_FRAMES = (
    _SHARED, _PER_FRAME, "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence",
    "TemporalPositionIndex", "FrameAcquisitionDateTime", "MREchoSequence", "EffectiveEchoTime", "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence", "InversionTimes", "MRDiffusionSequence", "MRImageFrameTypeSequence", "FrameType",
)  # fmt: skip
_KEYWORDS = (
    *_OF_FRAMES, "SOPClassUID", "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "PixelSpacing",
    "ContrastBolusAgent", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "Modality", "ImageType", "PhotometricInterpretation", "Manufacturer", "MagneticFieldStrength",
    "BodyPartExamined", "BurnedInAnnotation", "LossyImageCompression", "ScanningSequence", "MRAcquisitionType", "EchoTime",
    "RepetitionTime", "InversionTime", "DiffusionBValue", "ComplexImageComponent", "AngioFlag", "TemporalPositionIdentifier",
    "NumberOfTemporalPositions", "EchoNumbers", "AcquisitionTime", "ContentTime", "InstanceNumber", "Rows", "Columns", "SliceThickness",
    "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames",
)  # fmt: skip


def unpacked(data: bytes, limit: int = UNPACKED_LIMIT) -> bytes:
    """The first `limit` bytes of what a gzip file holds, or the data as they are where they are not gzip; a cut one gives what it has."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, limit)
    except zlib.error:
        return b""


def dicom_rows(source: BinaryIO | bytes, uri: str, file_id: int) -> list[dict[str, Any]]:
    """The index rows of one DICOM file, at least one. `source`: the file opened, or its bytes; read up to the pixels."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    row: dict[str, Any] = {"file_id": file_id, "uri": uri, "kind": "dicom", "frame": 0, "frames": 1}
    quiet()
    try:
        return _rows(*_until_pixels(stream), row)
    except RecursionError:
        return [row | {"problem": "its sequences are nested too deeply; export it again"}]
    except Exception as error:  # noqa: BLE001 — pydicom raises whatever a damaged file leads it to
        return [row | {"problem": f"the DICOM header is damaged ({type(error).__name__}); copy the file again from its source"}]


def _until_pixels(stream: BinaryIO) -> tuple[Elements, Elements | None, bool]:
    """The elements before the pixels, those of the file itself, and whether pixels were reached."""
    start = stream.tell()
    for most in _HEADERS:
        stream.seek(start)
        head = stream.read(most)
        try:
            return *_scanned(head), True
        except NotPlainError:
            break
        except CutError:
            if len(head) < most:
                break
    stream.seek(start)
    return _parsed(stream)


@cache
def _wanted() -> dict[int, str]:
    return wanted_tags(_KEYWORDS, private=(*_B_VALUES, _PLANE_TYPE))


@cache
def _wanted_meta() -> dict[int, str]:
    return wanted_tags(_META)


def _scanned(head: bytes) -> tuple[Elements, Elements]:
    values, at = scan_meta(head, _wanted_meta())
    meta = Scanned(head, values, False, "")
    syntax = meta.text(tag_of("TransferSyntaxUID"))
    if syntax not in (IMPLICIT, EXPLICIT) and not (syntax or "").startswith(ENCAPSULATED):
        raise NotPlainError
    return scanned(head, at, _wanted(), implicit=syntax == IMPLICIT)[0], meta


def _parsed(stream: BinaryIO) -> tuple[Elements, Elements | None, bool]:
    from pydicom.filereader import read_partial

    reached = False

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = int(tag) in PIXELS
        return reached or int(tag) > max(PIXELS)

    dataset = read_partial(stream, stop, defer_size=4096, force=True)
    meta = getattr(dataset, "file_meta", None)
    return Parsed(dataset), None if meta is None else Parsed(meta), reached


def _rows(ds: Elements, meta: Elements | None, reached: bool, row: dict[str, Any]) -> list[dict[str, Any]]:
    row |= _facts(ds, meta)
    if row["sop_class"] == words.DICOMDIR:
        return [row | {"kind": "dicomdir"}]
    frames = _whole(ds, "NumberOfFrames")
    row["frames"] = 1 if frames is None else frames
    if words.holds_no_picture(row["sop_class"], row["modality"]):
        return [row | {"frames": 1}]
    if not reached:
        return [row | {"frames": 1, "problem": "it has no pixel data: it is cut short, or they were taken out"}]
    if not row["rows"] or not row["columns"]:
        return [row | {"frames": 1, "problem": "Rows or Columns is missing"}]
    if not 1 <= row["frames"] <= MOST_FRAMES:
        return [row | {"frames": 1, "problem": f"NumberOfFrames is {'too large' if row['frames'] > 0 else 'not positive'}"}]
    if row["frames"] == 1 and tag_of(_PER_FRAME) not in ds:
        return [row]
    return list(_frames(ds, row))


def _facts(ds: Elements, meta: Elements | None) -> dict[str, Any]:
    sop_class = _text(ds, "SOPClassUID") or (meta is not None and _text(meta, "MediaStorageSOPClassUID")) or None
    words_of = (_text(ds, name) for name in ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName"))
    spacing = _numbers(ds, "PixelSpacing", 2)
    agent = _text(ds, "ContrastBolusAgent")
    return {
        "patient_id": _text(ds, "PatientID"),
        "issuer": _text(ds, "IssuerOfPatientID"),
        "birth_date": _text(ds, "PatientBirthDate"),
        "sex": _text(ds, "PatientSex"),
        "study_date": _text(ds, "StudyDate"),
        "study_uid": _text(ds, "StudyInstanceUID"),
        "series_uid": _text(ds, "SeriesInstanceUID"),
        "sop_uid": _text(ds, "SOPInstanceUID") or (_text(meta, "MediaStorageSOPInstanceUID") if meta is not None else None),
        "sop_class": sop_class,
        "modality": _upper(_text(ds, "Modality")),
        "image_type": _upper(_text(ds, "ImageType")),
        "text": " | ".join(word.lower() for word in words_of if word) or None,
        "photometric": _upper(_text(ds, "PhotometricInterpretation")),
        "manufacturer": words.manufacturer(_text(ds, "Manufacturer")),
        "field_strength": _tesla(_number(ds, "MagneticFieldStrength")),
        "body_part": words.body_part(_text(ds, "BodyPartExamined")),
        "plane_type": _private_whole(ds, _PLANE_TYPE),
        "burned_in": (_text(ds, "BurnedInAnnotation") or "").lower() or None,
        "transfer_syntax": _text(meta, "TransferSyntaxUID") if meta is not None else None,
        "lossy": None if (lossy := _text(ds, "LossyImageCompression")) is None else lossy == "01",
        "scanning_sequence": _upper(_text(ds, "ScanningSequence")),
        "acquisition": (_text(ds, "MRAcquisitionType") or "").lower() or None,
        "te_ms": _number(ds, "EchoTime"),
        "tr_ms": _number(ds, "RepetitionTime"),
        "ti_ms": _number(ds, "InversionTime"),
        "b_value": _b_value(ds),
        "component": _upper(_text(ds, "ComplexImageComponent")),
        "angio": _text(ds, "AngioFlag") == "Y",
        "contrast_agent": None if agent is None else words.names_an_agent(agent),
        "temporal_position": _whole(ds, "TemporalPositionIdentifier"),
        "temporal_positions": _whole(ds, "NumberOfTemporalPositions"),
        "echo": _whole(ds, "EchoNumbers"),
        "time": _text(ds, "AcquisitionTime") or _text(ds, "ContentTime"),
        "instance_number": _whole(ds, "InstanceNumber"),
        "rows": _whole(ds, "Rows"),
        "columns": _whole(ds, "Columns"),
        "row_spacing": spacing[0] if spacing else None,
        "column_spacing": spacing[1] if spacing else None,
        "thickness": _number(ds, "SliceThickness"),
        "spacing_between": _number(ds, "SpacingBetweenSlices"),
        "position": _numbers(ds, "ImagePositionPatient", 3),
        "orientation": _numbers(ds, "ImageOrientationPatient", 6),
    }


def _frames(ds: Elements, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a frame: what its own functional groups say, else the shared ones, else the file."""
    shared = _first(ds, _SHARED)
    row = row | (_group_facts(shared) if shared is not None else {})
    own = ds.items(tag_of(_PER_FRAME))
    several = row["frames"]
    if not own and several > 1:  # one position for many frames would be that of the first
        row = row | {"position": None}
    for number in range(several):
        facts = _group_facts(own[number]) if number < len(own) else {}
        kinds = {row["image_type"], facts.pop("image_type", None)} - {None}
        yield row | facts | {"frame": number, "image_type": "\\".join(sorted(kinds)) or None}


def _group_facts(group: Elements) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (item := _first(group, "PlanePositionSequence")) is not None:
        found["position"] = _numbers(item, "ImagePositionPatient", 3)
    if (item := _first(group, "PlaneOrientationSequence")) is not None:
        found["orientation"] = _numbers(item, "ImageOrientationPatient", 6)
    if (item := _first(group, "PixelMeasuresSequence")) is not None:
        if spacing := _numbers(item, "PixelSpacing", 2):
            found |= {"row_spacing": spacing[0], "column_spacing": spacing[1]}
        found |= {"thickness": _number(item, "SliceThickness"), "spacing_between": _number(item, "SpacingBetweenSlices")}
    if (item := _first(group, "FrameContentSequence")) is not None:
        found |= {"temporal_position": _whole(item, "TemporalPositionIndex"), "time": _text(item, "FrameAcquisitionDateTime")}
    if (item := _first(group, "MREchoSequence")) is not None:
        found["te_ms"] = _number(item, "EffectiveEchoTime")
    if (item := _first(group, "MRTimingAndRelatedParametersSequence")) is not None:
        found["tr_ms"] = _number(item, "RepetitionTime")
    if (item := _first(group, "MRModifierSequence")) is not None and (times := _number(item, "InversionTimes")):
        found["ti_ms"] = times
    if (item := _first(group, "MRDiffusionSequence")) is not None:
        found["b_value"] = _number(item, "DiffusionBValue")
    if (item := _first(group, "MRImageFrameTypeSequence")) is not None:
        found["image_type"] = _upper(_text(item, "FrameType"))
        if component := _upper(_text(item, "ComplexImageComponent")):
            found["component"] = component
    return {name: value for name, value in found.items() if value is not None}


def _first(ds: Elements, keyword: str) -> Elements | None:
    return next(iter(ds.items(tag_of(keyword))), None)


def _text(ds: Elements, keyword: str) -> str | None:
    """Trimmed; values of several joined by a backslash; None where it is empty or cannot be read."""
    try:
        return (ds.text(tag_of(keyword)) or "").strip(" \0\\") or None
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 — a value that cannot be converted is one that is not there
        return None


def _numbers(ds: Elements, keyword: str, count: int) -> list[float] | None:
    text = _text(ds, keyword)
    try:
        values = [float(part) for part in text.split("\\")] if text else []
    except ValueError:
        return None
    return values if len(values) == count and all(math.isfinite(value) for value in values) else None


def _number(ds: Elements, keyword: str) -> float | None:
    text = _text(ds, keyword)
    try:
        value = float(text.split("\\")[0]) if text else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e30 else None


def _whole(ds: Elements, keyword: str) -> int | None:
    value = _number(ds, keyword)
    return int(value) if value is not None and abs(value) < 2**31 else None


def _private_whole(ds: Elements, tag: int) -> int | None:
    try:
        value = ds.value(tag)
        if isinstance(value, bytes):
            value = int.from_bytes(value, "little") if len(value) in (2, 4) else value.decode("ascii")
        return int(float(str(value))) if value is not None else None
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, UnicodeDecodeError):
        return None


def _b_value(ds: Elements) -> float | None:
    """Of the standard, Siemens, GE (which adds 1e9) and Philips, in s/mm²."""
    if (value := _number(ds, "DiffusionBValue")) is not None:
        return value
    for tag in _B_VALUES:
        if tag not in ds:
            continue
        try:
            found: Any = ds.value(tag)
            if isinstance(found, bytes):
                found = found.decode("ascii").split("\\")
            first = found if isinstance(found, str | int | float) else next(iter(found))
            number = float(first) % 100_000
        except (ValueError, TypeError, KeyError, StopIteration, UnicodeDecodeError):
            continue
        return number if math.isfinite(number) else None
    return None


def _tesla(value: float | None) -> float | None:
    return value / 10_000 if value is not None and value > 100 else value  # some write gauss


def _upper(text: str | None) -> str | None:
    return text.upper() if text else None


def name_words(uri: str) -> str:
    """What a file's name says, for text evidence: without folders and endings, lower case."""
    name = PurePosixPath(uri.rpartition("::")[2]).name.lower()
    for end in (".gz", ".nii", ".hdr", ".img"):
        name = name.removesuffix(end)
    return name
