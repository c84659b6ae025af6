"""Small sound DICOM and NIfTI files, of every kind that can be written here: what benchmarks.fuzz_dicom changes."""

import gzip
import io
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)  # fmt: skip

from btc_ray.images.formats.frame_pool import SYNTAXES
from btc_ray.images.formats.samples import compressed, sample_frame

SIDE, BITS = 48, 12
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def dicom_files() -> dict[str, bytes]:
    """By what they are; a syntax whose encoder is not installed is left out."""
    words = _words()
    files = {f"uncompressed {syntax}": dicom([words.tobytes()], syntax) for syntax in NATIVE}
    files["frames"] = dicom([words.tobytes()] * 4, ExplicitVRLittleEndian, NumberOfFrames=4)
    files["groups of frames"] = dicom(
        [words.tobytes()] * 3, ExplicitVRLittleEndian, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups(3)
    )
    files["padding"] = dicom([words.tobytes()], ImplicitVRLittleEndian, PixelPaddingValue=0, RescaleSlope=2, RescaleIntercept=-7)
    files["8 bit MONOCHROME1"] = dicom(
        [(words >> 4).astype(np.uint8).tobytes()], ExplicitVRLittleEndian, BitsAllocated=8, BitsStored=8, HighBit=7,
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    for syntax, (name, _) in SYNTAXES.items():
        try:
            frame, side, bits, size = compressed(words, syntax, bits=BITS), SIDE, BITS, 2
        except ModuleNotFoundError:
            continue
        except ValueError:
            if (sample := sample_frame(syntax)) is None:
                continue
            frame, side, bits, size = sample[0], sample[1].shape[0], sample[2], sample[1].itemsize
        changes = {"Rows": side, "Columns": side, "BitsAllocated": 8 * size, "BitsStored": bits, "HighBit": bits - 1}
        files[f"{name} {syntax}"] = dicom([frame], syntax, **changes)
        files[f"{name} {syntax}, frames"] = dicom([frame] * 3, syntax, NumberOfFrames=3, **changes)
    return files


def nifti_files() -> dict[str, bytes]:
    """By a name that ends as their files do."""
    volume = np.stack([_words()] * 4, axis=2).astype(np.int16)
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    plain = nibabel.Nifti1Image(volume, affine).to_bytes()
    files = {
        "plain.nii": plain,
        "second version.nii": nibabel.Nifti2Image(volume, affine).to_bytes(),
        "floats.nii": nibabel.Nifti1Image(volume.astype(np.float32), affine).to_bytes(),
        "volumes.nii": nibabel.Nifti1Image(np.stack([volume] * 3, axis=3), affine).to_bytes(),
    }
    return files | {f"packed {name}.gz": gzip.compress(data, mtime=0) for name, data in files.items()}


def dicom(frames: list[bytes], syntax: str, **changes: Any) -> bytes:
    """A file of `frames`, the bytes of each as `syntax` has them; `changes` by keyword, `private`: a dataset of more."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid(entropy_srcs=[syntax, str(sorted(changes))])
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", f"2.25.1.{sum(syntax.encode())}"
    ds.Modality, ds.PatientID, ds.SeriesDescription = "MR", "P1", "t1"
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PixelRepresentation = "MONOCHROME2", 1, 0
    ds.Rows = ds.Columns = SIDE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, BITS, BITS - 1
    ds.PixelSpacing, ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 1], [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ds.update(changes.pop("private", {}))
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    native, little = syntax in NATIVE, syntax != ExplicitVRBigEndian
    if native:
        joined = b"".join(frames)
        ds.PixelData = joined if little else np.frombuffer(joined, "<u2").astype(">u2").tobytes()
    else:
        ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OW" if native and ds.BitsAllocated == 16 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, MRImageStorage
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    return out.getvalue()


def _words() -> np.ndarray:
    """uint16 (SIDE, SIDE) of 12 bits: a bright disc in noise."""
    down, across = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    noise = np.random.default_rng(0).integers(0, 60, (SIDE, SIDE))
    return (40 + noise + 2500 * (np.hypot(down / 0.8, across / 0.7) < 1)).astype(np.uint16)


def groups(count: int) -> Sequence:
    """The functional groups of so many frames, 5 mm apart."""
    found = []
    for number in range(count):
        position, measures, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, measures.PixelSpacing = [0, 0, 5 * number], [1, 1]
        group.PlanePositionSequence, group.PixelMeasuresSequence = Sequence([position]), Sequence([measures])
        found.append(group)
    return Sequence(found)
