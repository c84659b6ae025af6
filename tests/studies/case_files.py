"""The files that the cases of real archives are made of: DICOM, NIfTI, discs and zips, sound and odd."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from tests.images.formats import dicom_files
from tests.studies import made
from tests.studies.made import enhanced, head, nifti

SIDE = 16
ROOT = "1.2.840.10008.5.1.4.1.1."
FIVE_MM = np.diag([1.0, 1.0, 5.0, 1.0])
VOLUME = head((20, 22, 10))
NII = nifti(VOLUME, FIVE_MM)


def shown_only(*slices: int) -> np.ndarray:
    """The volume with air in all but these slices."""
    return np.where(np.isin(np.arange(VOLUME.shape[2]), slices), VOLUME, 0).astype(np.int16)


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape or (SIDE, SIDE)).astype(np.uint16)


def dicom(z: float = 0.0, seed: int = 0, **tags: Any) -> bytes:
    shape = {"Rows": SIDE, "Columns": SIDE, "PixelData": pixels(seed=seed).tobytes()}
    return made.dicom((0, 0, z), tags.pop("orientation", made.AXIAL), **{**shape, **tags})


def slices(count: int = 3, prefix: str = "IM", **tags: Any) -> dict[str, bytes]:
    return {f"{prefix}{at}": dicom(5.0 * at, at, InstanceNumber=at + 1, **tags) for at in range(count)}


def cut_enhanced() -> bytes:
    """Ten frames, the last three of which are missing."""
    frames = pixels(10, SIDE, SIDE).tobytes()
    return enhanced([5.0 * at for at in range(10)], Rows=SIDE, Columns=SIDE, PixelData=frames)[: -3 * 2 * SIDE**2]


def report(uid: str, modality: str) -> bytes:
    return made.dicom(None, None, Rows=None, Columns=None, PixelData=None, SOPClassUID=ROOT + uid, Modality=modality)


def disc(*images: str) -> bytes:
    """A DICOMDIR that names `images`."""
    records = [Dataset()]
    records[0].DirectoryRecordType, records[0].PatientID = "PATIENT", "P1"
    for image in images:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", image.split("/")
        records.append(record)
    index = Dataset()
    index.FileSetID, index.DirectoryRecordSequence = "DISC", Sequence(records)
    index.file_meta = FileMetaDataset()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID, index.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.9"
    sink = io.BytesIO()
    index.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as container:
        for name, data in files.items():
            container.writestr(name, data)
    return sink.getvalue()


def under(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


def pair(kind: type[Any], *, order: str = "<", name: str = "v") -> dict[str, bytes]:
    """The two files of a volume."""
    image = kind(VOLUME, FIVE_MM, kind.header_class(endianness=order))
    files = {end: nibabel.FileHolder(fileobj=io.BytesIO()) for end in ("header", "image")}
    image.to_file_map(files)
    ends = {"header": ".hdr", "image": ".img"}
    return {f"{name}{ends[end]}": holder.fileobj.getvalue() for end, holder in files.items()}


def patched(data: bytes, form: str, at: int, *values: float) -> bytes:
    found = bytearray(data)
    struct.pack_into(form, found, at, *values)
    return bytes(found)


def without_its_syntax(uid: bytes) -> bytes:
    """A slice that claims another transfer syntax, of as many letters."""
    plain = dicom_files.dicom(dicom_files.head(SIDE, SIDE))
    assert plain.count(b"1.2.840.10008.1.2.1\0") == 1
    return plain.replace(b"1.2.840.10008.1.2.1\0", uid.ljust(20, b"\0"))
