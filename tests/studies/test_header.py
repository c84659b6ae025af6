"""Headers, odd and broken ones too: a row a frame, a problem in words, never a value of the file."""

import gzip
import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from btc_ray.images.formats.dicom_header import is_dicom
from btc_ray.studies.header import dicom_rows, unpacked
from btc_ray.studies.nifti import bids_names, is_nifti, nifti_rows
from tests.studies.made import AXIAL, dicom, enhanced, head, nifti


def test_a_slice_is_one_row_with_its_geometry_and_times() -> None:
    (row,) = dicom_rows(dicom((1, 2, 3), EchoTime=90, ImageType=["ORIGINAL", "PRIMARY"]), "a.dcm", 7)
    assert (row["file_id"], row["frame"], row["frames"]) == (7, 0, 1)
    assert (row["position"], row["orientation"]) == ([1, 2, 3], AXIAL)
    assert (row["te_ms"], row["image_type"], row["manufacturer"]) == (90, "ORIGINAL\\PRIMARY", "Siemens")
    assert "problem" not in row


def test_every_frame_of_an_enhanced_object_has_its_own_position() -> None:
    rows = dicom_rows(enhanced([10, 0, 5]), "a", 0)
    assert [row["frame"] for row in rows] == [0, 1, 2]
    assert [row["position"][2] for row in rows] == [10, 0, 5]
    assert all(row["orientation"] == AXIAL for row in rows)


def test_frames_of_an_old_multiframe_object_do_not_share_the_position_of_the_first() -> None:
    assert [row["position"] for row in dicom_rows(dicom(NumberOfFrames=3), "a", 0)] == [None] * 3


def test_dicom_is_known_by_content_with_and_without_preamble() -> None:
    whole = dicom()
    assert is_dicom(whole)
    assert is_dicom(whole[132:])
    assert not is_dicom(b"\xff\xd8\xff\xe0" + bytes(400))
    assert not is_dicom(b"")
    bare = io.BytesIO()
    dataset = pydicom.dcmread(io.BytesIO(whole))
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    pydicom.dcmwrite(bare, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert is_dicom(bare.getvalue())


def test_a_file_without_preamble_reads_as_one_with_it() -> None:
    assert dicom_rows(dicom(SOPInstanceUID="9.8"), "a", 0)[0]["sop_uid"] == "9.8"
    assert dicom_rows(dicom(SOPInstanceUID="9.8")[132:], "a", 0)[0]["sop_uid"] == "9.8"


def test_gzip_is_looked_into_and_a_bomb_is_not_unpacked() -> None:
    assert unpacked(gzip.compress(b"abc")) == b"abc"
    assert len(unpacked(gzip.compress(bytes(10_000_000)), limit=1000)) == 1000
    assert unpacked(b"plain") == b"plain"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (dicom()[:300], "no pixel data"),
        (dicom(PixelData=None), "no pixel data"),
        (dicom(Rows=None), "Rows or Columns"),
        (dicom(NumberOfFrames=0), "NumberOfFrames is not positive"),
        (dicom(NumberOfFrames=100_000, PixelData=b"\0\0"), "NumberOfFrames is too large"),
    ],
)
def test_what_can_give_no_picture_says_why(data: bytes, words: str) -> None:
    assert words in dicom_rows(data, "a", 0)[0]["problem"]


def test_an_object_that_never_has_pixels_has_no_problem() -> None:
    report = dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", PixelData=None, Rows=None, Columns=None)
    assert "problem" not in dicom_rows(report, "a", 0)[0]


def test_sequences_nested_without_end_are_a_problem_in_plain_words() -> None:
    inner = Dataset()
    for _ in range(150):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([inner])
        inner = outer
    data = dicom(ReferencedSeriesSequence=inner.ReferencedSeriesSequence)
    (row,) = dicom_rows(data, "a", 0)
    assert "Recursion" not in str(row.get("problem"))


def test_broken_values_are_missing_values() -> None:
    data = dicom(PatientID="P1", EchoTime=12).replace(b"12.0", b"LEAK")
    (row,) = dicom_rows(data, "a", 0)
    assert row["te_ms"] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_file_is_rows_whatever_is_damaged(seed: int) -> None:
    chance = np.random.default_rng(seed)
    data = bytearray(enhanced([0, 1, 2]) if seed % 2 else dicom(PatientID="LEAK1931"))
    for place in chance.integers(0, len(data), 30):
        data[place] = chance.integers(0, 256)
    rows = dicom_rows(bytes(data), "a", 0)
    assert rows
    assert all("LEAK" not in (row.get("problem") or "") for row in rows)


def test_nifti_is_one_row_a_slice_along_the_coarsest_spacing() -> None:
    thick = nifti(head((12, 4, 10)), np.diag([1, 5, 1, 1]))
    rows = nifti_rows(thick, "x.nii", 0)
    assert len(rows) == 4
    assert is_nifti(thick)
    assert {(row["rows"], row["columns"]) for row in rows} == {(10, 12)}
    # RAS to LPS: the second axis goes to the front, which is towards smaller y in LPS.
    assert [row["position"][1] for row in rows] == [0, -5, -10, -15]


def test_an_isotropic_volume_is_cut_axially_however_it_is_stored() -> None:
    coronal_first = np.eye(4)[[1, 2, 0, 3]]  # array axis 1 runs up the body
    rows = nifti_rows(nifti(head((12, 14, 10)), coronal_first.T), "x.nii", 0)
    assert len(rows) in (12, 14, 10)
    up = int(np.argmax(np.abs(coronal_first.T[2, :3])))
    assert len(rows) == (12, 14, 10)[up]


def test_a_volume_without_codes_has_no_geometry() -> None:
    assert nifti_rows(nifti(head(), codes=0), "x.nii", 0)[0].get("orientation") is None


@pytest.mark.parametrize("data", [b"", b"\0" * 10, nifti(head())[:200], b"\x1f\x8b" + bytes(30)])
def test_a_broken_nifti_is_a_row_with_a_problem(data: bytes) -> None:
    (row,) = nifti_rows(data, "x.nii.gz", 0)
    assert row["problem"]


def test_a_bids_name_says_subject_session_and_suffix() -> None:
    assert bids_names("/d/sub-01/ses-2/anat/sub-01_ses-2_ce-gd_T1w.nii.gz") == {
        "sub": "01",
        "ses": "2",
        "ce": "gd",
        "suffix": "T1w",
    }
    assert bids_names("/d/t1.nii.gz") == {}
