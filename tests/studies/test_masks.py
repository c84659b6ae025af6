"""Masks beside images say which slices show a lesion, and how much of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from btc_ray.archive.entries import Entry
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.reader import ByteReader
from btc_ray.storage import Place
from btc_ray.studies.candidates import index_candidates
from btc_ray.studies.masks import lesion_areas
from btc_ray.studies.overview import overview
from btc_ray.studies.selection import Wanted
from tests.studies.made import SIDE, dicom, head, nifti, stack

SHAPE = (20, 20, 6)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])  # a pixel of a slice is 4 mm²


def areas(folder: Path) -> dict[tuple[str, int], float]:
    """File name and frame → mm²."""
    listed = [found for found in list_inputs([str(folder)], sniff=True) if isinstance(found, Entry)]
    rows = [{"row_id": number, "uri": entry.uri, "size": entry.size} for number, entry in enumerate(listed)]
    index = index_candidates(rows, len(rows), cpus=1)
    studies = overview(index, Wanted(), privacy="auto", private_folder=Place(str(folder / "private")))
    found = lesion_areas(studies, listed, ByteReader())
    return {(Path(listed[file].uri).name, frame): area for (file, frame), area in found.items()}


def mask(voxels: int = 20) -> np.ndarray:
    """A lesion of `voxels` in slices 2 and 3."""
    values = np.zeros(SHAPE, np.int16)
    values.reshape(-1, SHAPE[2], order="A")[:voxels, 2:4] = 1
    return values


@pytest.mark.parametrize(
    "name", ["x_seg.nii", "x-seg.nii", "lesion.nii", "sub-01_label-lesion_mask.nii", "x_dseg.nii", "tumor.nii"]
)
def test_a_nifti_mask_covers_the_images_of_its_folder_that_have_its_grid(tmp_path: Path, name: str) -> None:
    (tmp_path / "t1.nii").write_bytes(nifti(head(SHAPE), AFFINE))
    (tmp_path / "flair.nii").write_bytes(nifti(head(SHAPE), AFFINE))
    (tmp_path / "other_grid.nii").write_bytes(nifti(head((20, 20, 7)), AFFINE))
    (tmp_path / name).write_bytes(nifti(mask(), AFFINE))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "t2.nii").write_bytes(nifti(head(SHAPE), AFFINE))
    found = areas(tmp_path)
    assert {file for file, _ in found} == {"t1.nii", "flair.nii"}
    assert [found["t1.nii", frame] for frame in range(6)] == [0, 0, 80, 80, 0, 0]


@pytest.mark.parametrize("name", ["brain_mask.nii", "aseg.nii", "head_seg.nii", "atlas_label.nii"])
def test_a_mask_of_normal_anatomy_is_no_lesion(tmp_path: Path, name: str) -> None:
    (tmp_path / "t1.nii").write_bytes(nifti(head(SHAPE), AFFINE))
    (tmp_path / name).write_bytes(nifti(mask(), AFFINE))
    assert areas(tmp_path) == {}


def test_a_mask_larger_than_any_tumour_is_one_of_the_brain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affine = np.diag([10.0, 10.0, 25.0, 1.0])
    (tmp_path / "t1.nii").write_bytes(nifti(head(SHAPE), affine))
    (tmp_path / "seg.nii").write_bytes(nifti((head(SHAPE) > 300).astype(np.int16), affine))
    assert areas(tmp_path) == {}
    assert "anatomy by their name or volume, or nothing: 1." in capsys.readouterr().err


def seg(sources: list[str], pixels: np.ndarray, category: str = "49755003", **tags: object) -> bytes:
    """A DICOM SEG of bits, whose frame n was drawn on the instance `sources[n]`."""
    frames = []
    for source in sources:
        image, derivation, segment, frame = Dataset(), Dataset(), Dataset(), Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", source
        derivation.SourceImageSequence = DicomSequence([image])
        segment.ReferencedSegmentNumber = 1
        frame.DerivationImageSequence = DicomSequence([derivation])
        frame.SegmentIdentificationSequence = DicomSequence([segment])
        frames.append(frame)
    code, one = Dataset(), Dataset()
    code.CodeValue = category
    one.SegmentNumber, one.SegmentedPropertyCategoryCodeSequence = 1, DicomSequence([code])
    bits = np.packbits(pixels.reshape(-1), bitorder="little").tobytes()
    return dicom(
        None,
        None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4",
        Modality="SEG",
        SeriesInstanceUID="1.2.66",
        NumberOfFrames=len(sources),
        SegmentSequence=DicomSequence([one]),
        PerFrameFunctionalGroupsSequence=DicomSequence(frames),
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelData=bits + b"\0" * (len(bits) % 2),
        **tags,
    )


def test_a_seg_covers_the_instances_that_it_names(tmp_path: Path) -> None:
    for number, data in enumerate(stack(5, PixelSpacing=[2.0, 3.0])):
        (tmp_path / f"IM{number}").write_bytes(data)
    uids = [_uid(tmp_path / f"IM{number}") for number in range(5)]
    pixels = np.zeros((2, SIDE, SIDE), np.uint8)
    pixels[0, :2], pixels[1, 0, 0] = 1, 1
    (tmp_path / "seg").write_bytes(seg([uids[3], uids[1]], pixels))
    assert areas(tmp_path) == {("IM3", 0): 2 * SIDE * 6.0, ("IM1", 0): 6.0}  # in pixels of what it was drawn on
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [1.0, 2.0]
    shared.PixelMeasuresSequence = DicomSequence([measures])
    own = {"SharedFunctionalGroupsSequence": DicomSequence([shared])}
    (tmp_path / "seg").write_bytes(seg([uids[3], uids[1]], pixels, **own))
    assert areas(tmp_path) == {("IM3", 0): 2 * SIDE * 2.0, ("IM1", 0): 2.0}
    (tmp_path / "seg").write_bytes(seg([uids[3], uids[1]], pixels, category="123037004"))
    assert areas(tmp_path) == {}  # a structure of normal anatomy


def test_a_seg_that_cannot_be_read_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "IM0").write_bytes(dicom())
    (tmp_path / "seg").write_bytes(seg(["1.2.3"], np.zeros((1, SIDE, SIDE), np.uint8))[:-6])
    assert areas(tmp_path) == {}
    assert "cannot be read: 1" in capsys.readouterr().err


def _uid(path: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(io.BytesIO(path.read_bytes()), stop_before_pixels=True).SOPInstanceUID)
