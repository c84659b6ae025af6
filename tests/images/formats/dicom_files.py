"""DICOM files that tests make: one head-like picture in any syntax, geometry and storage of pixels."""

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

AXIAL = (1, 0, 0, 0, 1, 0)
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def head(rows: int = 120, columns: int = 100, seed: int = 0) -> np.ndarray:
    """12-bit numbers, uint16 (rows, columns): a bright ellipse with a nose above and a spot on its left, no two turns of it alike."""
    down, across = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    noise = np.random.default_rng(seed).integers(0, 40, (rows, columns))
    found = 60 + noise + 2000 * ((down / 0.8) ** 2 + (across / 0.7) ** 2 < 1) + 900 * (np.hypot(down + 0.3, across - 0.2) < 0.2)
    return (found + 700 * (np.hypot(down + 0.8, across) < 0.12)).astype(np.uint16)


def dicom(
    pixels: np.ndarray,
    *,
    syntax: str = ExplicitVRLittleEndian,
    frames: int | None = None,
    frame: bytes | None = None,
    **changes: Any,
) -> bytes:
    """A whole file; `frame`: the pixels as `syntax` has them, where nothing here encodes them; `changes` by keyword, None takes an element
    out."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid()
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "MR", "MONOCHROME2", 1
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * pixels.itemsize, 12, 11
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelSpacing, ds.ImageOrientationPatient = [1, 1], list(AXIAL)
    ds.PatientName = "LEAK^LEAK"
    if pixels.itemsize != 2:
        ds.BitsStored, ds.HighBit = ds.BitsAllocated, ds.BitsAllocated - 1
    if frames is not None:
        ds.NumberOfFrames = frames
    little = syntax != ExplicitVRBigEndian
    if syntax in NATIVE:
        ds.PixelData = (pixels if little else pixels.astype(pixels.dtype.newbyteorder(">"))).tobytes()
    elif frame is not None:
        ds.PixelData = encapsulate([frame])
    else:
        ds.PixelData = encapsulate([encoded(one, syntax) for one in (pixels if pixels.ndim == 3 else [pixels])])
    ds["PixelData"].VR = "OW" if syntax in NATIVE else "OB"
    for name, value in changes.items():
        if value is None:
            del ds[name]
        else:
            setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, ds.SOPClassUID
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    return out.getvalue()


def encoded(pixels: np.ndarray, syntax: str) -> bytes:
    """One frame, 12 bits of uint16 (H, W), compressed without loss."""
    if syntax == RLELossless:
        from pydicom.pixels import get_encoder

        return get_encoder(RLELossless).encode(  # type: ignore[no-any-return]
            pixels.tobytes(), rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=1, bits_allocated=16,
            bits_stored=12, pixel_representation=0, number_of_frames=1, photometric_interpretation="MONOCHROME2",
            encoding_plugin="pydicom",
        )  # fmt: skip
    if syntax == JPEGLSLossless:
        import jpeg_ls

        return bytes(jpeg_ls.encode_array(pixels))
    assert syntax == JPEG2000Lossless
    from openjpeg.utils import encode_array

    return bytes(encode_array(pixels, bits_stored=12))
