"""Slices as files: the same phantoms as 12-bit DICOM in each transfer syntax, as JPEG, in one enhanced file and as .nii.gz."""

import gzip
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from benchmarks.sound_dicom import dicom, groups
from btc_ray.images.formats.samples import compressed
from btc_ray.phantoms.phantom import LABELS, make_phantom

BITS, QUALITY = 12, 90
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
PRIVATE = 80  # elements that a scanner adds: real headers have a hundred and more


def pictures(count: int, side: int) -> list[np.ndarray]:
    """Phantoms, uint8 (side, side)."""
    return [make_phantom(LABELS[number % len(LABELS)], seed=number, size=(side, side)).pixels for number in range(count)]


def as_words(grey: np.ndarray, number: int) -> np.ndarray:
    """As a scanner stores it: uint16 of 12 bits, with noise below a grey level."""
    noise = np.random.default_rng(number).integers(0, 14, grey.shape)
    return (grey.astype(np.uint16) * 14 + 3 + noise).astype(np.uint16)


def as_jpeg(grey: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def as_dicom(words: np.ndarray, number: int, syntax: str = ExplicitVRLittleEndian, **tags: object) -> bytes:
    """One slice as a file, with a header of the usual length and `tags` by keyword. Raises ImportError where no encoder is installed."""
    frame = words.tobytes() if syntax == ExplicitVRLittleEndian else _compressed(words, syntax)
    return dicom([frame], syntax, **_geometry(words, number), **_instance(number), **tags)


def as_enhanced(slices: Sequence[np.ndarray], **tags: object) -> bytes:
    """All slices in one file, with `tags` by keyword."""
    shared = _geometry(slices[0], 0) | _instance(0) | tags
    return dicom(
        [words.tobytes() for words in slices], ExplicitVRLittleEndian, **shared, NumberOfFrames=len(slices),
        PerFrameFunctionalGroupsSequence=groups(len(slices)),
    )  # fmt: skip


def as_nifti(slices: Sequence[np.ndarray]) -> bytes:
    """All slices in one .nii.gz."""
    volume = np.stack([words.T for words in slices], axis=2).astype(np.int16)
    return gzip.compress(nibabel.Nifti1Image(volume, np.diag([-0.5, -0.5, 5.0, 1.0])).to_bytes(), compresslevel=6)


def _geometry(words: np.ndarray, number: int) -> dict[str, object]:
    rows, columns = words.shape
    return {"Rows": rows, "Columns": columns, "PixelSpacing": [0.5, 0.5], "ImagePositionPatient": [0, 0, 5 * number]}


def _instance(number: int) -> dict[str, object]:
    private = Dataset()
    block = private.private_block(0x0019, "BENCHMARK", create=True)
    for element in range(PRIVATE):
        block.add_new(element, "LO", f"value {element}")
    return {"SOPInstanceUID": f"2.25.2.{number + 1}", "InstanceNumber": number + 1, "private": private}


def _compressed(words: np.ndarray, syntax: str) -> bytes:
    if syntax != JPEGLosslessSV1:
        return compressed(words, syntax, bits=BITS)
    import gdcm  # the one library at hand that encodes it, from file to file

    with tempfile.TemporaryDirectory() as name:
        plain, packed = Path(name) / "plain", Path(name) / "packed"
        plain.write_bytes(dicom([words.tobytes()], ExplicitVRLittleEndian, **_geometry(words, 0)))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(packed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        frame: bytes = next(pydicom.encaps.generate_frames(pydicom.dcmread(packed).PixelData, number_of_frames=1))
        return frame
