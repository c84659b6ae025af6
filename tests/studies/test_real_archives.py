"""The real and odd files of ../shared: which series of each folder is selected and why not, plane, weighting, slices, gap."""

from pathlib import Path

import pytest

from btc_ray.images.formats.dicom_header import is_dicom
from btc_ray.studies.grouping import Grouped, group
from btc_ray.studies.header import dicom_rows, unpacked
from btc_ray.studies.index import index_table
from btc_ray.studies.nifti import is_nifti, nifti_rows
from btc_ray.studies.selection import Wanted
from tests.conftest import SHARED
from tests.studies.archives import outcome

DICOM = SHARED / "data" / "dicom"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DICOM.exists(), reason="needs ../shared/data/dicom, which a fresh clone does not have"),
]

# folder → a line a series: reason (None: selected), plane, weighting, slices, gap
EXPECTED: dict[str, list[tuple[str | None, str | None, str | None, int, bool | None]]] = {
    "brainix_flair_philips": [(None, "axial", "flair", 22, False)],
    "gammaknife_t1gd_siemens": [(None, "axial", "t1", 30, True)],
    "memprage_sag_siemens": [(None, "sagittal", "t1", 44, True), (None, "axial", "t2", 6, True)],
    "pd_axial_obl_ge": [(None, "axial", "pd", 20, False)],
    "t1_sag_hfs_siemens": [(None, "sagittal", "t1", 35, False)],
    "mosaic_12bit_packed_siemens": [("mosaic", "axial", "pd", 1, None)],
    "mosaic_ax_siemens": [("mosaic", "axial", "pd", 1, None)],
    "mosaic_jpegll_j2k_siemens": [("mosaic", "axial", "pd", 1, None)] * 2,
    "t1_phantom_xa30_siemens": [(None, "sagittal", "t1", 10, True)],
    "enh_siemens_xa10": [("functional", "axial", "t1", 6, False)],
    "scout_xa30_siemens": [("localiser", "sagittal", "t1", 7, True)],
    "frag_jpegll_siemens": [(None, "sagittal", "t1", 8, True)],
    "enh_philips_fmap": [("phase or field map", "axial", None, 64, False)],
    "raw_philips": [("no pixels", None, None, 1, None), ("no pixels", None, "t1", 1, None)],
    "spectroscopy_siemens": [("no pixels", None, None, 1, None)],
    "fmap_phase_siemens": [("phase or field map", "axial", "t1", 4, True)],
    "fmap_mag_siemens": [("phase or field map", "axial", "t1", 6, True)],
    "b0map_ge": [("phase or field map", "axial", "t1", 4, True)],
    "brainix_syntaxes": [(None, "axial", "t2star", 1, None)] * 3,
    "localizer_ge": [("localiser", "axial", "t1", 6, True)],
    "nii_mask": [("mask or label map", "axial", "t1", 26, False)],
}

# folder → its rows by status, or why there is nothing to score: what EXPECT.tsv says, of whole folders
ROWS: dict[str, dict[str, int] | str] = {
    "b0map_ge": "1 × phase or field map",
    "bids_empty": {"unreadable": 10},
    "brainix_flair_philips": {"ok": 22},
    "brainix_syntaxes": {"ok": 3},
    "dicomdir_xa60": "4 × functional; 1 × no pixels",
    "dwv_misc": {"ok": 20, "unreadable": 2, "unsupported": 1},
    "enh_philips_fmap": "1 × phase or field map",
    "enh_siemens_xa10": "1 × functional",
    "fmap_mag_siemens": "1 × phase or field map",
    "fmap_phase_siemens": "1 × phase or field map",
    "frag_jpegll_siemens": {"ok": 8},
    "gammaknife_t1gd_siemens": {"ok": 30},
    "localizer_ge": "1 × localiser",
    "made/file": {"ok": 15, "unreadable": 16, "unsupported": 2},
    "made/phi": {"ok": 6, "unreadable": 1},
    "memprage_sag_siemens": {"ok": 50},
    "mosaic_12bit_packed_siemens": "1 × mosaic",
    "mosaic_ax_siemens": "1 × mosaic",
    "mosaic_jpegll_j2k_siemens": "2 × mosaic",
    "nii_mask": "1 × mask or label map",
    "nii_t2_torchio": {"ok": 26},
    "no_pixels": {"unreadable": 2},
    "odd_orthanc": {"ok": 4, "unreadable": 18},
    "pd_axial_obl_ge": {"ok": 20},
    "raw_philips": "2 × no pixels",
    "scout_xa30_siemens": "1 × localiser",
    "spectroscopy_siemens": "1 × no pixels",
    "syntaxes_noise": {"ok": 20},
    "t1_phantom_xa30_siemens": {"ok": 10},
    "t1_sag_hfs_siemens": {"ok": 35},
}


def _grouped(folder: str) -> tuple[Grouped, list[str]]:
    """The series of a folder, and what is wrong with its files."""
    rows, problems = [], []
    for number, path in enumerate(sorted((DICOM / folder).rglob("*"))):
        if not path.is_file():
            continue
        data = path.read_bytes()
        plain = unpacked(data)
        if is_nifti(plain[:544]) or path.name.endswith(".nii.gz"):
            found = nifti_rows(data, str(path), number)
        elif is_dicom(plain[:352]):
            found = dicom_rows(plain, str(path), number)
        else:
            continue
        problems += [row["problem"] for row in found if row.get("problem")]
        rows += [row for row in found if not row.get("problem") and row["kind"] != "dicomdir"]
    return group(index_table(rows), Wanted()), problems


@pytest.mark.parametrize("folder", EXPECTED)
def test_each_real_folder_is_what_a_radiologist_would_take(folder: str) -> None:
    found, problems = _grouped(folder)
    series = [
        (found.selected[name].reason, facts.plane, facts.weighting, facts.slices, facts.arrangement.gap)
        for name, facts in found.facts.items()
    ]
    assert sorted(series, key=str) == sorted(EXPECTED[folder], key=str)
    assert problems == []


@pytest.mark.parametrize("folder", ROWS)
def test_each_real_folder_has_the_rows_that_are_expected(folder: str, tmp_path: Path) -> None:
    found, expected = outcome(tmp_path, {}, input=str(DICOM / folder)), ROWS[folder]
    if isinstance(expected, str):
        assert expected in (found.refused or "")
        return
    assert (found.refused, found.status) == (None, expected)
    assert not any(word in error for error in found.errors for word in ("LEAK", "script", "Recursion"))


def test_mosaics_are_never_one_picture(tmp_path: Path) -> None:
    found = outcome(tmp_path, {}, input=str(DICOM / "mosaic_ax_siemens"), series=("all",))
    assert set(found.status) == {"unsupported"}
    assert all("mosaic" in error for error in found.errors)


def test_every_folder_of_the_table_is_expected() -> None:
    folders = {path.name for path in DICOM.iterdir() if path.is_dir()} - {"made"}
    assert folders - {"nii_heads"} == {folder for folder in ROWS if "/" not in folder}  # the heads are a thousand slices: below


def test_real_flair_slices_are_in_order_of_position() -> None:
    found, _ = _grouped("brainix_flair_philips")
    (facts,) = found.facts.values()
    order = sorted(zip(facts.arrangement.slice_index, facts.arrangement.position_mm, strict=True))
    assert [position for _, position in order] == sorted(facts.arrangement.position_mm)
    assert [place for place, _ in order] == list(range(22))


def test_a_cd_holds_its_functional_series_and_reports_and_nothing_to_score() -> None:
    found, _ = _grouped("dicomdir_xa60")
    assert found.unselected == {"functional": 4, "no pixels": 1}
    assert found.exams_without_series == (1, 1)


def test_objects_without_pixels_are_no_pixels_and_images_without_theirs_a_problem() -> None:
    found, problems = _grouped("no_pixels")
    assert set(found.unselected) == {"no pixels"}
    assert len(problems) == 2


def test_other_modalities_and_captures_are_not_selected() -> None:
    found, problems = _grouped("dwv_misc")
    assert found.unselected == {"not MR": 4, "secondary capture or report": 1}
    assert len(problems) == 1
    (frames,) = [facts for facts in found.facts.values() if facts.frames == 16]
    assert frames.plane is None


def test_noise_is_selected_and_its_colour_copy_is_not() -> None:
    found, _ = _grouped("syntaxes_noise")
    assert sorted(str(one.reason) for one in found.selected.values()) == ["None", "secondary capture or report"]


def test_odd_files_are_problems_in_words_without_values() -> None:
    _, problems = _grouped("odd_orthanc")
    assert problems
    assert not any("script" in problem or "Recursion" in problem for problem in problems)


def test_real_niftis_are_told_from_masks_maps_and_time_courses() -> None:
    found, _ = _grouped("nii_heads")
    reasons = {Path(name.removeprefix("file\0")).name.removesuffix(".nii.gz"): one.reason for name, one in found.selected.items()}
    for name in ("M2208_T2w", "MR_Gd", "chris_PD", "chris_t1", "CT_AVM", "CT_pitch", "Iguana"):
        assert reasons[name] is None, name
    for name in ("fmri_pitch", "pcasl", "spmMotor"):
        assert reasons[name] is not None, name
    other, _ = _grouped("nii_t2_torchio")
    assert {one.reason for one in other.selected.values()} == {None, "mask or label map"}


def test_empty_bids_files_say_that_they_are_empty() -> None:
    found, problems = _grouped("bids_empty")
    assert not found.facts
    assert set(problems) == {"the file is empty"}


def test_a_name_burned_in_does_not_take_the_series_away_and_is_told() -> None:
    found, _ = _grouped("made")
    burned = {facts.burned_in for name, facts in found.facts.items() if not found.selected[name].selected}
    assert burned == {"yes"}
    assert any(one.selected for one in found.selected.values())
