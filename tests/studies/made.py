"""DICOM and NIfTI files made in the tests: small, with every tag to choose."""

import io
from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from btc_ray.studies.grouping import Grouped, group
from btc_ray.studies.header import dicom_rows
from btc_ray.studies.index import index_table
from btc_ray.studies.nifti import nifti_rows
from btc_ray.studies.selection import Wanted, wanted

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = f"{MR}.1"
SIDE = 8
AXIAL, SAGITTAL, CORONAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


def dicom(position: Sequence[float] | None = (0, 0, 0), orientation: Sequence[float] | None = AXIAL, **tags: Any) -> bytes:
    """A T1 slice of 8 × 8 pixels; `tags` by keyword, None takes one away."""
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": MR,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": "1.2.3",
        "StudyInstanceUID": "1.2",
        "PatientID": "P1",
        "StudyDate": "20200101",
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "Manufacturer": "SIEMENS",
        "ScanningSequence": "SE",
        "EchoTime": 12.0,
        "RepetitionTime": 500.0,
        "SliceThickness": 5.0,
        "InstanceNumber": 1,
        "Rows": SIDE,
        "Columns": SIDE,
        "PixelSpacing": [1.0, 1.0],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "ImagePositionPatient": None if position is None else list(position),
        "ImageOrientationPatient": None if orientation is None else list(orientation),
        "PixelData": bytes(2 * SIDE * SIDE * max(int(tags.get("NumberOfFrames", 1) or 1), 1)),
    } | tags
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MR)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1")
    sink = io.BytesIO()
    dataset.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def stack(count: int, *, step: float = 5.0, **tags: Any) -> list[bytes]:
    """Slices along the body, `step` mm apart."""
    return [dicom((0, 0, step * number), InstanceNumber=number + 1, **tags) for number in range(count)]


def enhanced(positions: Sequence[float], **tags: Any) -> bytes:
    """A multi-frame object whose frames lie at `positions` along the body."""
    frames = []
    for position in positions:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, position]
        frame.PlanePositionSequence = DicomSequence([place])
        frames.append(frame)
    direction, shared = Dataset(), Dataset()
    direction.ImageOrientationPatient = AXIAL
    shared.PlaneOrientationSequence = DicomSequence([direction])
    return dicom(
        None,
        None,
        SOPClassUID=ENHANCED,
        NumberOfFrames=len(positions),
        PerFrameFunctionalGroupsSequence=DicomSequence(frames),
        SharedFunctionalGroupsSequence=DicomSequence([shared]),
        **tags,
    )


def nifti(values: np.ndarray, affine: np.ndarray | None = None, *, codes: int = 1, **fields: Any) -> bytes:
    """A .nii file of `values`; `codes` 0 says that its affine means nothing."""
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.set_sform(image.affine, codes)
    image.set_qform(image.affine, codes)
    for name, value in fields.items():
        image.header[name] = value
    return image.to_bytes()


def head(shape: tuple[int, ...] = (12, 14, 10)) -> np.ndarray:
    """Many grey levels, no picture of anything."""
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def index(*files: bytes | tuple[str, bytes]) -> pa.Table:
    """The index of files, each given alone or with its name; those with a problem are left out, as the caller does."""
    rows = []
    for number, file in enumerate(files):
        name, data = file if isinstance(file, tuple) else (f"{number:03d}.dcm", file)
        found = nifti_rows(data, name, number) if ".nii" in name else dicom_rows(data, name, number)
        rows += [row for row in found if row.get("problem") is None]
    return index_table(rows)


def grouped(*files: bytes | tuple[str, bytes], series: Sequence[str] = ()) -> Grouped:
    return group(index(*files), wanted(series) if series else Wanted())
