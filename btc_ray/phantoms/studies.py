"""A small archive of synthetic heads as hospitals and researchers keep theirs: DICOM without file extensions, and NIfTI in BIDS.

What it holds beside plain series is what real archives hold: a localiser, a report, a diffusion map, two exams of one patient, the tags
that three manufacturers write or leave out, a slice that came twice, and compressed frames where an encoder is installed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from btc_ray.images.formats.samples import compressed
from btc_ray.phantoms.phantom import make_phantom

MR, REPORT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.11"
BITS = 12
SPACING, STEP = 1.8, 6.0  # mm
_DIRECTIONS = {"axial": (1, 0, 0, 0, 1, 0), "coronal": (1, 0, 0, 0, 0, -1), "sagittal": (0, 1, 0, 0, 0, -1)}
_NORMALS = {"axial": (0, 0, 1), "coronal": (0, 1, 0), "sagittal": (1, 0, 0)}


@dataclass(frozen=True, kw_only=True)
class _Series:
    description: str
    view: str = "axial"
    slices: int = 6
    tags: Mapping[str, Any] = field(default_factory=dict)
    syntax: UID = ExplicitVRLittleEndian


@dataclass(frozen=True, kw_only=True)
class _Exam:
    folder: str
    patient: str
    date: str
    label: str
    maker: str
    series: Sequence[_Series]


_SIEMENS = {
    "ScanningSequence": "SE",
    "RepetitionTime": 550.0,
    "EchoTime": 9.0,
    "SequenceName": "*se2d1",
    "MagneticFieldStrength": 1.5,
}
_GE = {"ScanningSequence": "SE", "RepetitionTime": 4200.0, "EchoTime": 102.0}
_PHILIPS = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000.0, "EchoTime": 125.0, "InversionTime": 2500.0}


def write_studies(folder: str | Path, *, seed: int, side: int = 128) -> list[Path]:
    """Write `folder/dicom` and `folder/bids`: three exams of two patients, and one of a third; returns the files written.

    Args:
        side: of a slice, px, 96 to 2048.

    Raises ValueError for a negative seed or another side, OSError where `folder` cannot be written.
    """
    home = Path(folder)
    return [*_write_dicom(home / "dicom", seed, side), *_write_bids(home / "bids", seed + 1, side)]


def _exams() -> tuple[_Exam, ...]:
    agent = {"ContrastBolusAgent": "GADOVIST"}
    diffusion = {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "SequenceName": "*ep_b0_1000"}
    localiser = _Series(description="localizer", slices=3, tags={**_SIEMENS, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    first = (
        localiser,
        _Series(description="t1_se_tra", tags=_SIEMENS),
        _Series(description="t1_se_cor_KM", view="coronal", tags=_SIEMENS | agent, syntax=JPEGLSLossless),
        _Series(description="ep2d_diff_3scan_trace_ADC", slices=4, tags=_SIEMENS | diffusion),
    )
    second = (
        _Series(description="Ax T2 FSE", tags=_GE, syntax=JPEG2000Lossless),
        _Series(description="Ax T1 +C", tags=_GE | {"RepetitionTime": 500.0, "EchoTime": 8.0} | agent),
    )
    third = (
        _Series(description="FLAIR_longTR", tags=_PHILIPS, syntax=RLELossless),
        _Series(description="sT1W_SE", view="sagittal"),
    )
    return (
        _Exam(folder="CD1/ST000", patient="PHANTOM^ONE", date="20240115", label="glioma", maker="SIEMENS", series=first),
        _Exam(
            folder="CD2/ST000", patient="PHANTOM^ONE", date="20240702", label="glioma", maker="GE MEDICAL SYSTEMS", series=second
        ),
        _Exam(folder="CD3/ST000", patient="PHANTOM^TWO", date="20240309", label="notumor", maker="Philips", series=third),
    )


def _write_dicom(home: Path, seed: int, side: int) -> list[Path]:
    paths = []
    for exam_number, exam in enumerate(_exams()):
        study = f"2.25.{seed}.{exam_number + 1}"
        for number, series in enumerate(exam.series):
            folder = home / exam.folder / f"SE{number:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for place, dataset in enumerate(
                _slices(exam, series, f"{study}.{number + 1}", study, seed + 100 * exam_number, side)
            ):
                paths.append(folder / f"IM{place:05d}")
                dataset.save_as(paths[-1], enforce_file_format=True)
        paths.append(home / exam.folder / "SR00000")
        _report(exam, study).save_as(paths[-1], enforce_file_format=True)
    twice = home / "CD1" / "ST000" / "SE001"
    again = twice / "IM00099"  # as two copies of an export lie in one folder
    again.write_bytes((twice / "IM00000").read_bytes())
    return [*paths, again]


def _slices(exam: _Exam, series: _Series, uid: str, study: str, seed: int, side: int) -> Iterator[Dataset]:
    for number in range(series.slices):
        words = _words(exam.label, seed + number, series.view, side)
        content, syntax = _encoded(words, series.syntax)
        dataset = _common(exam, study, syntax)
        dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = MR, f"{uid}.{number + 1}", uid
        dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = "MR", series.description, int(uid.rpartition(".")[2])
        dataset.BodyPartExamined, dataset.ImageType = "HEAD", ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.InstanceNumber, dataset.SliceThickness = number + 1, STEP
        dataset.PixelSpacing = [SPACING * 128 / side] * 2
        dataset.ImageOrientationPatient = list(_DIRECTIONS[series.view])
        dataset.ImagePositionPatient = [STEP * number * along for along in _NORMALS[series.view]]
        dataset.Rows, dataset.Columns = words.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, BITS, BITS - 1, 0
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.PixelData = content
        dataset["PixelData"].VR = "OW" if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) else "OB"
        for keyword, value in series.tags.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = MR, dataset.SOPInstanceUID
        yield dataset


def _common(exam: _Exam, study: str, syntax: UID) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PatientName, dataset.PatientID = exam.patient, f"ID-{exam.patient[-3:]}"
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.Manufacturer = study, exam.date, exam.maker
    return dataset


def _report(exam: _Exam, study: str) -> Dataset:
    dataset = _common(exam, study, ExplicitVRLittleEndian)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = REPORT, f"{study}.99.1", f"{study}.99"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "SR", 99, 1
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = REPORT, dataset.SOPInstanceUID
    return dataset


def _words(label: str, seed: int, view: str, side: int) -> np.ndarray:
    """uint16 (side, side), 12 bits: a phantom's grey levels as a scanner would store them."""
    return make_phantom(label, seed=seed, view=view, size=(side, side)).pixels.astype(np.uint16) * 14 + 3


def _encoded(words: np.ndarray, syntax: UID) -> tuple[bytes, UID]:
    """The frame in `syntax`, or plain where its encoder is not installed."""
    if syntax == ExplicitVRLittleEndian:
        return words.tobytes(), syntax
    try:
        return encapsulate([compressed(words, syntax, bits=BITS)]), syntax
    except ModuleNotFoundError:
        return words.tobytes(), ExplicitVRLittleEndian


def _write_bids(home: Path, seed: int, side: int) -> list[Path]:
    """One subject in BIDS 1.10: a T1 volume of a few slices."""
    folder = home / "sub-01" / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    description = home / "dataset_description.json"
    description.write_text('{"Name": "Synthetic heads", "BIDSVersion": "1.10.0", "DatasetType": "raw"}\n')
    slices = [_words("meningioma", seed + number, "axial", side)[::-1].T for number in range(6)]  # left to right, back to front
    volume = np.stack(slices, axis=2).astype(np.int16)
    file = folder / "sub-01_T1w.nii.gz"
    nibabel.Nifti1Image(volume, np.diag([SPACING * 128 / side, SPACING * 128 / side, STEP, 1])).to_filename(file)
    return [description, file]
