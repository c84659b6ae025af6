"""NIfTI: the same slices however a volume is stored, and the same picture as DICOM of it."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from btc_ray.images.decode import format_of, picture_of
from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.nifti import open_nifti
from tests.images.formats.dicom_files import dicom, head

VOLUME = np.stack([head(seed=at).T for at in range(6)], axis=2)  # (to the left, to the back, up)
LPS = np.diag([-1.0, -1, 3, 1])


def _nifti(volume: np.ndarray = VOLUME, affine: np.ndarray | None = LPS, kind: type = nib.Nifti1Image) -> bytes:
    return bytes(kind(volume, affine).to_bytes())


def _ras() -> bytes:
    return _nifti(VOLUME[::-1, ::-1], np.diag([1.0, 1, 3, 1]))


def _sagittal_storage() -> bytes:
    return _nifti(VOLUME.transpose(2, 0, 1), np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [3, 0, 0, 0], [0, 0, 0, 1]]))


STORED = {
    "LPS": _nifti(), "packed": gzip.compress(_nifti()), "NIfTI-2": _nifti(kind=nib.Nifti2Image), "RAS": _ras(),
    "slices first": _sagittal_storage(), "floats": _nifti(VOLUME.astype(np.float32)), "big endian": _nifti(VOLUME.astype(">i2")),
    "four dimensions": _nifti(VOLUME[..., None]),
}  # fmt: skip


@pytest.mark.parametrize("how", STORED)
def test_a_slice_is_the_same_as_that_of_dicom(how: str) -> None:
    assert format_of(STORED[how]).frames(STORED[how]) == 6
    for at in (0, 4):
        picture = picture_of(STORED[how], frame=at)
        assert np.array_equal(picture.grey, picture_of(dicom(head(seed=at))).grey)
        assert picture.plane == "axial"


def test_without_codes_of_its_space_it_is_shown_as_stored() -> None:
    image = nib.Nifti1Image(VOLUME, None)
    image.header.set_zooms((1, 1, 3))
    picture = picture_of(bytes(image.to_bytes()))
    assert (picture.plane, picture.geometry) == (None, "none")
    assert np.array_equal(picture.grey, picture_of(dicom(head())).grey)


def test_a_pair_of_files_is_opened_together() -> None:
    pair = nib.Nifti1Pair(VOLUME, LPS)
    files = nib.Nifti1Pair.make_file_map({"header": None, "image": None})
    for one in files.values():
        one.fileobj = __import__("io").BytesIO()
    pair.to_file_map(files)
    header, image = (files[name].fileobj.getvalue() for name in ("header", "image"))
    assert np.array_equal(open_nifti(header, image).decode(2).grey, picture_of(_nifti(), frame=2).grey)
    with pytest.raises(Unsupported, match="without its"):
        open_nifti(header)


def test_air_outside_that_is_nan_is_black() -> None:
    volume = VOLUME.astype(np.float32)
    volume[:20] = np.nan
    assert not picture_of(_nifti(volume)).grey[:, :20].any()


def _with_air(dtype: str = "i2", *, axis: int = 2, slope: float = 1.0, air: float = 0.0) -> bytes:
    """A volume whose first and last slices along `axis` show air alone, and as many pixels as are no more than dirt."""
    volume = np.moveaxis(VOLUME, 2, axis).astype(np.float64) + air
    ends = np.moveaxis(volume, axis, 0)
    ends[[0, 5]] = air
    ends[0, 0, :9] = volume.max()
    zooms = np.insert([1.0, 1.0], axis, 3.0)
    image = nib.Nifti1Image((volume / slope).astype(dtype), np.diag([-zooms[0], -zooms[1], zooms[2], 1.0]))
    image.header.set_slope_inter(slope, 0.0)
    return bytes(image.to_bytes())


AIR = {
    "whole numbers": _with_air(), "unsigned": _with_air("u2"), "floats": _with_air("f4"), "big endian": _with_air(">i2"),
    "numbers that fall as grey rises": _with_air("i2", slope=-1.0), "floats that fall": _with_air("f4", slope=-2.0),
    "air that is no zero": _with_air(air=-1024.0), "slices first": _with_air(axis=0), "slices second": _with_air(axis=1),
    "packed": gzip.compress(_with_air()),
}  # fmt: skip


@pytest.mark.parametrize("how", AIR)
def test_a_slice_of_air_is_empty_however_a_volume_is_stored(how: str) -> None:
    assert open_nifti(AIR[how]).empty().tolist() == [True, False, False, False, False, True]


def test_of_voxels_that_are_all_alike_none_are_air() -> None:
    for value in (0.0, 7.0, np.nan):
        assert not open_nifti(_nifti(np.full(VOLUME.shape, value, np.float32))).empty().any()


def _claims(**fields: object) -> bytes:
    data = bytearray(_nifti())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    return bytes(data)


REFUSED = {
    "cut": (_nifti()[:-1000], Unreadable, "cut short"),
    "cut within gzip": (gzip.compress(_nifti())[:-9000], Unreadable, "cut short"),
    "sizeof_hdr 99": (_claims(sizeof_hdr=99), Unreadable, "header"),
    "32,767 a side": (_claims(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), Unreadable, "claims"),
    "a negative side": (_claims(dim=[3, -5, 10, 10, 1, 1, 1, 1]), Unreadable, "dimensions"),
    "colours": (_nifti(np.zeros((8, 8, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])), Unsupported, "colours"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_gives_no_picture_says_why(case: str) -> None:
    data, status, words = REFUSED[case]
    with pytest.raises(status, match=words):
        picture_of(data)
