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

from btc_ray.images.formats.dicom_header import quiet
from btc_ray.studies import vocabulary as words

HEAD = 352  # bytes that tell the kind of a file: a NIfTI header; DICOM's mark stands at 128
UNPACKED_LIMIT = 1 << 28  # bytes; a gzip member that gives more is a bomb or no single image
MOST_FRAMES = 20_000
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})


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
        dataset, reached = _until_pixels(stream)
        return _rows(dataset, reached, row)
    except RecursionError:
        return [row | {"problem": "its sequences are nested too deeply; export it again"}]
    except Exception as error:  # noqa: BLE001 — pydicom raises whatever a damaged file leads it to
        return [row | {"problem": f"the DICOM header is damaged ({type(error).__name__}); copy the file again from its source"}]


def _until_pixels(stream: BinaryIO) -> tuple[Any, bool]:
    """The dataset before the pixels, and whether pixels were reached."""
    from pydicom.filereader import read_partial

    reached = False

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        nonlocal reached
        reached = int(tag) in _PIXELS
        return reached or int(tag) > 0x7FE00010

    return read_partial(stream, stop, defer_size=4096, force=True), reached


def _rows(dataset: Any, reached: bool, row: dict[str, Any]) -> list[dict[str, Any]]:
    meta = getattr(dataset, "file_meta", None)
    row |= _facts(dataset, meta)
    if row["sop_class"] == words.DICOMDIR:
        return [row | {"kind": "dicomdir"}]
    frames = _whole(dataset, "NumberOfFrames")
    row["frames"] = 1 if frames is None else frames
    if words.holds_no_picture(row["sop_class"], row["modality"]):
        return [row | {"frames": 1}]
    if not reached:
        return [row | {"frames": 1, "problem": "it has no pixel data: it is cut short, or they were taken out"}]
    if not row["rows"] or not row["columns"]:
        return [row | {"frames": 1, "problem": "Rows or Columns is missing"}]
    if not 1 <= row["frames"] <= MOST_FRAMES:
        return [row | {"frames": 1, "problem": f"NumberOfFrames is {'too large' if row['frames'] > 0 else 'not positive'}"}]
    if row["frames"] == 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        return [row]
    return list(_frames(dataset, row))


def _facts(ds: Any, meta: Any) -> dict[str, Any]:
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
        "plane_type": _private_whole(ds, (0x0027, 0x1035)),
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


def _frames(ds: Any, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a frame: what its own functional groups say, else the shared ones, else the file."""
    shared = _first(ds, "SharedFunctionalGroupsSequence")
    row = row | (_group_facts(shared) if shared is not None else {})
    own = list(ds.get("PerFrameFunctionalGroupsSequence") or ())
    several = row["frames"]
    if not own and several > 1:  # one position for many frames would be that of the first
        row = row | {"position": None}
    for number in range(several):
        facts = _group_facts(own[number]) if number < len(own) else {}
        kinds = {row["image_type"], facts.pop("image_type", None)} - {None}
        yield row | facts | {"frame": number, "image_type": "\\".join(sorted(kinds)) or None}


def _group_facts(group: Any) -> dict[str, Any]:
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


@cache
def _tag(keyword: str) -> Any:
    """Asking a dataset by keyword costs a search through the dictionary where it has no such element."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return Tag(tag_for_keyword(keyword) or 0)


def _first(ds: Any, keyword: str) -> Any:
    sequence = ds[_tag(keyword)].value if _tag(keyword) in ds else None
    return sequence[0] if sequence else None


def _text(ds: Any, keyword: str) -> str | None:
    """Trimmed; values of several joined by a backslash; None where it is empty or cannot be read."""
    tag = _tag(keyword)
    try:
        value = ds[tag].value if tag in ds else None
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 — a value that cannot be converted is one that is not there
        return None
    if value is None:
        return None
    joined = "\\".join(str(part) for part in value) if isinstance(value, list | tuple) or _is_multi(value) else str(value)
    return joined.strip(" \0\\") or None


def _is_multi(value: Any) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(value, MultiValue)


def _numbers(ds: Any, keyword: str, count: int) -> list[float] | None:
    text = _text(ds, keyword)
    try:
        values = [float(part) for part in text.split("\\")] if text else []
    except ValueError:
        return None
    return values if len(values) == count and all(math.isfinite(value) for value in values) else None


def _number(ds: Any, keyword: str) -> float | None:
    text = _text(ds, keyword)
    try:
        value = float(text.split("\\")[0]) if text else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e30 else None


def _whole(ds: Any, keyword: str) -> int | None:
    value = _number(ds, keyword)
    return int(value) if value is not None and abs(value) < 2**31 else None


def _private_whole(ds: Any, tag: tuple[int, int]) -> int | None:
    try:
        value = ds[tag].value if tag in ds else None
        if isinstance(value, bytes):
            value = int.from_bytes(value, "little") if len(value) in (2, 4) else value.decode("ascii")
        return int(float(str(value))) if value is not None else None
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, UnicodeDecodeError):
        return None


def _b_value(ds: Any) -> float | None:
    """Of the standard, Siemens, GE (which adds 1e9) and Philips, in s/mm²."""
    if (value := _number(ds, "DiffusionBValue")) is not None:
        return value
    for tag in ((0x0019, 0x100C), (0x0043, 0x1039), (0x2001, 0x1003)):
        if tag not in ds:
            continue
        try:
            found: Any = ds[tag].value
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
