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


def test_empty_slices_are_counted_and_not_scored() -> None:
    volume = VOLUME.copy()
    volume[..., (0, 5)] = 0
    assert open_nifti(_nifti(volume)).slices() == ([1, 2, 3, 4], 2)


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
