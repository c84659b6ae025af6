"""A header that is scanned says what pydicom reads, value for value; what is not plain is left to pydicom."""

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from btc_ray.images.formats.dicom_elements import IMPLICIT, Elements, Parsed, scanned, wanted_tags
from btc_ray.images.formats.dicom_header import quiet
from btc_ray.images.formats.dicom_scan import CutError, NotPlainError, scan_meta
from tests.images.formats.dicom_files import dicom, head

KEYWORDS = (
    "SOPClassUID", "ImageType", "PatientID", "SeriesDescription", "StudyDate", "ContentTime", "Rows", "BitsStored", "PixelSpacing",
    "PixelPaddingValue", "RescaleSlope", "InstanceNumber", "NumberOfFrames", "ImageOrientationPatient", "DiffusionBValue",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
)  # fmt: skip
SIEMENS_B = 0x0019100C
WANTED = wanted_tags(KEYWORDS, private=(SIEMENS_B,))
PLAIN = head(16, 16)


def _groups(count: int) -> Sequence:
    groups = []
    for number in range(count):
        measures, group = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.5 + number, 0.75], "3"
        group.PixelMeasuresSequence = Sequence([measures])
        groups.append(group)
    return Sequence(groups)


def _private() -> bytes:
    ds = pydicom.dcmread(io.BytesIO(dicom(PLAIN)))
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", "800")
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


FILES: dict[str, bytes] = {
    "plain": dicom(PLAIN, ImageType=["ORIGINAL", "PRIMARY", "M"], SeriesDescription=" t1 ", StudyDate="20240101", ContentTime="101500.25"),
    "odd numbers": dicom(PLAIN, PixelSpacing="", RescaleSlope="1e-3", InstanceNumber="  7", DiffusionBValue=1.5, PixelPaddingValue=4000),
    "several where there is one": dicom(PLAIN, RescaleSlope=[1, 2], PatientID="A\\B "),
    "letters beyond ASCII": dicom(PLAIN, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel", PatientID="Ä"),
    "Japanese": dicom(PLAIN, SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="頭部", PatientID="x"),
    "groups of frames": dicom(np.stack([PLAIN] * 3), frames=3, PerFrameFunctionalGroupsSequence=_groups(3),
                              SharedFunctionalGroupsSequence=_groups(1)),
    "private": _private(),
}  # fmt: skip


def _said(elements: Elements) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for tag in WANTED:
        if tag in elements:
            nested = WANTED[tag] == "SQ"
            said[f"{tag:08x}"] = (
                [_said(item) for item in elements.items(tag)] if nested else (elements.text(tag) or "").strip(" \0")
            )
    return said


def _parsed(data: bytes) -> Elements:
    quiet()
    return Parsed(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True))


def _rewritten(data: bytes, syntax: str, *, undefined: bool) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(data))
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    ds.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    ds.save_as(out, implicit_vr=syntax == IMPLICIT, little_endian=True)
    return out.getvalue()


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "end marks"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
@pytest.mark.parametrize("kind", FILES)
def test_a_scanned_header_says_what_pydicom_reads(kind: str, syntax: str, undefined: bool) -> None:
    data = _rewritten(FILES[kind], syntax, undefined=undefined)
    _, at = scan_meta(data, {})
    elements, found = scanned(data, at, WANTED, implicit=syntax == IMPLICIT)
    assert _said(elements) == _said(_parsed(data))
    assert data[found.start : found.start + PLAIN.nbytes] == PLAIN.tobytes()
    assert found.length == len(data) - found.start
    assert elements.value(SIEMENS_B) == (800 if kind == "private" else None)


def test_pixels_that_are_fragments_have_no_length() -> None:
    data = dicom(PLAIN, syntax=RLELossless)
    found = scanned(data, scan_meta(data, {})[1], WANTED, implicit=False)[1]
    assert (found.length, data[found.start : found.start + 4]) == (None, b"\xfe\xff\x00\xe0")


def _disordered(data: bytes, at: int) -> bytes:
    return data[:at] + b"\x20\x00\x13\x00IS\x02\x001 " + data[at:]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("big endian", (NotPlainError, CutError)),
        ("disordered", NotPlainError),
        ("unknown representation", NotPlainError),
        ("cut", CutError),
    ],
)
def test_what_is_not_plain_is_left_to_pydicom(how: str, error: type[Exception] | tuple[type[Exception], ...]) -> None:
    data = dicom(PLAIN, syntax=ExplicitVRBigEndian if how == "big endian" else ExplicitVRLittleEndian)
    _, at = scan_meta(data, {})
    changed = {
        "big endian": data,
        "disordered": _disordered(data, at),
        "unknown representation": data[: at + 4] + b"ZZ" + data[at + 6 :],
        "cut": data[: at + 60],
    }
    with pytest.raises(error):
        scanned(changed[how], at, WANTED, implicit=False)
