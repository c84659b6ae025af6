"""Order of slices, planes, stacks, gaps and duplicates, however files are numbered and stored."""

import numpy as np
import pytest

from btc_ray.studies.grouping import Grouped
from btc_ray.studies.order import Arrangement, normal_of, plane_of
from tests.studies.made import AXIAL, CORONAL, SAGITTAL, dicom, enhanced, grouped, stack


def arranged(*files: bytes) -> Arrangement:
    found: Grouped = grouped(*files)
    return found.facts["1.2.3"].arrangement


def test_slices_are_in_order_of_position_whatever_their_numbers_say() -> None:
    files = [dicom((0, 0, z), InstanceNumber=n) for z, n in ((10, 1), (0, 2), (5, 9))]
    assert arranged(*files).slice_index == [2, 0, 1]
    assert arranged(*(dicom((0, 0, z), InstanceNumber=1) for z in (10, 0, 5))).slice_index == [2, 0, 1]


def test_equal_positions_are_in_order_of_time_then_number() -> None:
    files = [
        dicom((0, 0, 0), AcquisitionTime="120000", InstanceNumber=1),
        dicom((0, 0, 0), AcquisitionTime="110000", InstanceNumber=9),
        dicom((0, 0, 0), AcquisitionTime="110000", InstanceNumber=8),
    ]
    assert arranged(*files).slice_index == [2, 1, 0]


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, [-1, 0, 0, 0, -1, 0], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, -1, 0], [-1, 0, 0, 0, 1, 0]],
)
def test_turned_transposed_and_mirrored_slices_have_the_same_order(orientation: list[float]) -> None:
    found = arranged(*(dicom((0, 0, z), orientation) for z in (3, 1, 2)))
    assert found.slice_index == [2, 0, 1]
    assert found.plane == ["axial"] * 3


@pytest.mark.parametrize(
    ("orientation", "plane"), [(AXIAL, "axial"), (SAGITTAL, "sagittal"), (CORONAL, "coronal"), ([0, -1, 0, 0, 0, 1], "sagittal")]
)
def test_the_plane_is_that_of_the_normal(orientation: list[float], plane: str) -> None:
    found, tilt = plane_of(normal_of(orientation))
    assert (found, tilt) == (plane, pytest.approx(0, abs=1e-6))


def test_an_oblique_slice_says_by_how_much() -> None:
    angle = np.radians(20)
    plane, tilt = plane_of(normal_of([1, 0, 0, 0, np.cos(angle), np.sin(angle)]))
    assert (plane, tilt) == ("axial", pytest.approx(20))


@pytest.mark.parametrize("orientation", [None, [0] * 6, [1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1], [float("nan")] * 6])
def test_an_orientation_that_spans_no_plane_is_none(orientation: list[float] | None) -> None:
    assert normal_of(orientation) is None


def test_slices_without_geometry_stay_in_order_of_their_numbers() -> None:
    found = arranged(*(dicom(None, None, InstanceNumber=n) for n in (3, 1, 2)))
    assert found.slice_index == [2, 0, 1]
    assert found.plane == [None] * 3
    assert found.gap is None


@pytest.mark.parametrize(
    ("positions", "tags", "gap"),
    [
        ((0, 5, 10, 15), {}, False),
        ((0, 5, 15, 20), {}, True),
        ((0, 6, 12), {}, False),  # 2D slices with a gap between them
        ((0, 20, 40), {}, True),  # every fourth
        ((0, 4, 8), {"SliceThickness": 1, "MRAcquisitionType": "3D"}, True),
        ((0, 1, 2), {"SliceThickness": 2, "SpacingBetweenSlices": 1, "MRAcquisitionType": "3D"}, False),
        ((0, 7, 14), {"SpacingBetweenSlices": 2}, False),  # the empty space, as some write it
        ((0,), {}, None),
    ],
)
def test_missing_slices_are_a_gap(positions: tuple[float, ...], tags: dict[str, float | str], gap: bool | None) -> None:
    assert arranged(*(dicom((0, 0, z), **tags) for z in positions)).gap is gap


def test_two_echoes_are_two_stacks_one_after_the_other() -> None:
    files = [dicom((0, 0, z), EchoTime=te) for z in (0, 5) for te in (12, 90)]
    found = arranged(*files)
    assert (found.stacks, found.slices, found.times) == (2, 4, 1)
    assert found.slice_index == [0, 2, 1, 3]


def test_two_matrices_are_two_stacks() -> None:
    assert arranged(*stack(2), dicom((0, 0, 20), Rows=4, PixelData=bytes(64))).stacks == 2


def test_the_same_instance_twice_is_a_duplicate_of_the_first() -> None:
    files = [dicom((0, 0, 0), SOPInstanceUID="7"), dicom((0, 0, 5)), dicom((0, 0, 0), SOPInstanceUID="7")]
    found = arranged(*files)
    assert found.duplicate_of == [None, None, 0]
    assert (found.slices, found.times) == (2, 1)


def test_frames_of_one_object_are_no_duplicates_and_lie_by_position() -> None:
    found = arranged(enhanced([10, 5, 0]))
    assert found.duplicate_of == [None] * 3
    assert found.slice_index == [2, 1, 0]
    assert found.position_mm == [10, 5, 0]
