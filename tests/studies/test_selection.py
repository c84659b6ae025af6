"""Which series are scored and why the others are not: the cases of real archives, each with its reason."""

from typing import Any

import numpy as np
import pytest

from btc_ray.studies.evidence import REASONS
from btc_ray.studies.selection import NOT_ASKED_FOR, VOCABULARY, SelectionError, wanted
from tests.studies.made import AXIAL, CORONAL, ENHANCED, MR, SAGITTAL, dicom, grouped, head, nifti, stack


def reasons(*files: Any, series: tuple[str, ...] = ()) -> list[str | None]:
    found = grouped(*files, series=series)
    return [found.selected[name].reason for name in sorted(found.selected)]


ROOT = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SOPClassUID": ROOT + "88.11", "Modality": "SR"}, "no pixels"),
        ({"SOPClassUID": ROOT + "11.1", "Modality": "PR"}, "no pixels"),
        ({"SOPClassUID": ROOT + "88.59", "Modality": "KO"}, "no pixels"),
        ({"SOPClassUID": ROOT + "66.4", "Modality": "SEG"}, "no pixels"),
        ({"SOPClassUID": ROOT + "481.3", "Modality": "RTSTRUCT"}, "no pixels"),
        ({"SOPClassUID": ROOT + "104.1", "Modality": "DOC"}, "no pixels"),
        ({"SOPClassUID": ROOT + "66", "Modality": "MR"}, "no pixels"),
        ({"SOPClassUID": ROOT + "4.2", "Modality": "MR"}, "no pixels"),
        ({"SOPClassUID": ROOT + "2", "Modality": "CT"}, "not MR"),
        ({"SOPClassUID": ROOT + "6.1", "Modality": "US"}, "not MR"),
        ({"SOPClassUID": ROOT + "2", "Modality": "MR"}, "not MR"),  # the SOP class says what it is
        ({"SOPClassUID": MR, "Modality": "SR"}, None),
        ({"Modality": None}, None),
        ({"SOPClassUID": ROOT + "7", "Modality": "OT"}, "secondary capture or report"),
        ({"SOPClassUID": ROOT + "7", "Modality": "CT"}, "not MR"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary capture or report"),
        ({"PhotometricInterpretation": "RGB"}, "secondary capture or report"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "secondary capture or report"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
        ({"SeriesDescription": "AAHead_Scout"}, "localiser"),
        ({"SeriesDescription": "3-plane loc"}, "localiser"),
        ({"SeriesDescription": "SURVEY"}, "localiser"),
        ({"SeriesDescription": "Loc (Right)"}, "localiser"),
        ({"SeriesDescription": "T1 local shim off"}, "phase or field map"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]}, "diffusion"),
        ({"DiffusionBValue": 1000.0}, "diffusion"),
        ({"DiffusionBValue": 0.0}, None),
        ({"SeriesDescription": "ep2d_diff_3scan_trace"}, "diffusion"),
        ({"SeriesDescription": "DTI_30dir"}, "diffusion"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "NONE"]}, "perfusion"),
        ({"SeriesDescription": "relCBF"}, "perfusion"),
        ({"SeriesDescription": "ep2d_perf_DSC"}, "perfusion"),
        ({"SeriesDescription": "3D pCASL"}, "perfusion"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "FMRI", "NONE"]}, "functional"),
        ({"SeriesDescription": "REST1 w SMS"}, "functional"),
        ({"SeriesDescription": "t2_tse_restore_tra"}, None),
        ({"SeriesDescription": "T2W/FE-EPI"}, None),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "angiography or projection"),
        ({"AngioFlag": "Y"}, "angiography or projection"),
        ({"SeriesDescription": "TOF_3D_multi-slab"}, "angiography or projection"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase or field map"),
        ({"ComplexImageComponent": "PHASE"}, "phase or field map"),
        ({"SeriesDescription": "gre_field_mapping"}, "phase or field map"),
        ({"SeriesDescription": "B0map"}, "phase or field map"),
        ({"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, "derived map"),
        ({"SeriesDescription": "T2_Map_Images"}, "derived map"),
        ({"SeriesDescription": "t1 subtraction"}, "derived map"),
        ({"SeriesDescription": "t1_mpr_tra FA 15"}, None),
        ({"ImageType": ["DERIVED", "PRIMARY", "MPR", "NORM", "DIS2D"]}, None),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "OTHER", "MEAN"], "SeriesDescription": "mocoMEMPRAGE_220FOV RMS"}, None),
        ({"BodyPartExamined": "KNEE"}, "other body part"),
        ({"BodyPartExamined": "LSPINE"}, "other body part"),
        ({"BodyPartExamined": "HEAD"}, None),
        ({"BodyPartExamined": "Head and Neck"}, None),
        ({"BodyPartExamined": ""}, None),
        ({"SeriesDescription": "t2_tse_sag L-spine"}, "other body part"),
        ({"SeriesDescription": "t1 brain and c-spine"}, None),
        ({"SeriesDescription": "fl2d_sag"}, None),
    ],
)  # fmt: skip
def test_a_series_is_left_out_for_the_first_reason_that_holds(tags: dict[str, Any], reason: str | None) -> None:
    pixels = {} if tags.get("Modality") not in ("SR", "PR", "KO") else {"PixelData": None}
    assert reasons(*stack(3, **(tags | (pixels if reason == "no pixels" else {})))) == [reason]


def test_three_orientations_of_few_slices_are_a_localiser() -> None:
    files = [dicom((0, 0, 0), way) for way in (AXIAL, SAGITTAL, CORONAL)]
    assert reasons(*files) == ["localiser"]


def test_two_orientations_in_a_series_are_two_stacks() -> None:
    found = grouped(*stack(6), *(dicom((float(x), 0, 0), SAGITTAL) for x in range(6)))
    assert found.facts["1.2.3"].arrangement.stacks == 2
    assert found.selected["1.2.3"].selected


def test_a_ge_three_plane_scan_is_a_localiser() -> None:
    import io

    import pydicom

    dataset = pydicom.dcmread(io.BytesIO(dicom(Manufacturer="GE MEDICAL SYSTEMS")))
    dataset.add_new((0x0027, 0x0010), "LO", "GEMS_IMAG_01")
    dataset.add_new((0x0027, 0x1035), "SS", 256)
    sink = io.BytesIO()
    dataset.save_as(sink)
    assert reasons(sink.getvalue()) == ["localiser"]


def test_four_times_at_one_position_are_several_volumes_and_two_are_stacks_or_repeats() -> None:
    times = [dicom((0, 0, z), TemporalPositionIdentifier=t) for z in (0, 5) for t in range(4)]
    assert reasons(*times) == ["several volumes"]
    assert reasons(*times[:2], *times[4:6]) == [None]


def test_an_echo_planar_time_course_is_functional_by_its_tags() -> None:
    times = [dicom((0, 0, z), TemporalPositionIdentifier=t, ScanningSequence="EP") for z in (0, 5) for t in range(4)]
    assert reasons(*times) == ["functional"]


def test_a_time_course_with_contrast_agent_is_perfusion() -> None:
    times = [dicom((0, 0, z), TemporalPositionIdentifier=t, ContrastBolusAgent="Gd") for z in (0, 5) for t in range(4)]
    assert reasons(*times) == ["perfusion"]


def test_a_derived_t1_alone_in_its_study_is_taken_as_fallback() -> None:
    found = grouped(*stack(6, ImageType=["DERIVED", "SECONDARY", "OTHER"]))
    assert found.selected["1.2.3"].selected
    assert found.selected["1.2.3"].by == "fallback"


def test_the_best_volume_that_only_words_speak_against_is_taken_where_nothing_else_is_left() -> None:
    alone = stack(8, SeriesInstanceUID="1", SeriesDescription="t1 subtraction")
    fewer = stack(5, SeriesInstanceUID="2", SeriesDescription="t1 subtraction")
    found = grouped(*alone, *fewer)
    assert (found.selected["1"].selected, found.selected["1"].by) == (True, "fallback")
    assert found.selected["2"].reason == "derived map"
    beside = grouped(*alone, *stack(5, SeriesInstanceUID="3"))
    assert beside.selected["1"].reason == "derived map"


def test_tags_are_never_overruled_by_the_fallback() -> None:
    assert reasons(*stack(8, ImageType=["DERIVED", "PRIMARY", "ADC"])) == ["derived map"]


def test_a_study_without_any_selected_series_is_counted() -> None:
    localiser = stack(3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = grouped(*localiser, *stack(3, StudyInstanceUID="9", StudyDate="20210101", SeriesInstanceUID="8"))
    assert found.exams_without_series == (1, 2)
    assert found.unselected == {"localiser": 1}


def test_a_screen_saved_into_a_series_does_not_take_its_slices_away() -> None:
    found = grouped(*stack(3), dicom(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]))
    assert found.selected["1.2.3"].selected
    assert found.selected["1.2.3\0capture"].reason == "secondary capture or report"
    assert found.facts["1.2.3\0capture"].burned_in == "suspected"


@pytest.mark.parametrize(
    ("name", "values", "fields", "reason"),
    [
        ("t1.nii", head(), {}, None),
        ("sub-01_T1w.nii", head(), {}, None),
        ("sub-01_task-x_bold.nii", head((12, 14, 10, 4)), {}, "functional"),
        ("sub-01_dwi.nii", head((12, 14, 10, 4)), {}, "diffusion"),
        ("sub-01_asl.nii", head((12, 14, 10, 4)), {}, "perfusion"),
        ("sub-01_phasediff.nii", head(), {}, "phase or field map"),
        ("t1.nii", head((12, 14, 10, 2)), {}, "several volumes"),
        ("t1.nii", head((12, 14, 10, 1)), {}, None),
        ("x.nii", (head() > 500).astype(np.uint8), {}, "mask or label map"),
        ("x.nii", (head() > 500).astype(np.float32), {}, "mask or label map"),
        ("sub-01_dseg.nii", head(), {}, "mask or label map"),
        ("tumour_mask.nii", head(), {}, "mask or label map"),
        ("x.nii", head(), {"intent_code": 1002}, "mask or label map"),
        ("x.nii", head(), {"intent_code": 1007}, "mask or label map"),
        ("x.nii", head(), {"intent_code": 3}, "mask or label map"),
        ("fmri_pitch.nii", head(), {}, "functional"),
    ],
)
def test_a_nifti_file_is_judged_by_its_header_its_values_and_its_name(
    name: str, values: np.ndarray, fields: dict[str, int], reason: str | None
) -> None:
    assert reasons((name, nifti(values, **fields))) == [reason]


def test_key_value_takes_the_series_that_match_and_names_the_others() -> None:
    files = [*stack(3, SeriesInstanceUID="1"), *stack(3, SeriesInstanceUID="2", EchoTime=100, RepetitionTime=4000)]
    assert reasons(*files, series=("weighting=t1",)) == [None, NOT_ASKED_FOR]
    assert reasons(*files, series=("weighting=t2", "plane=axial")) == [NOT_ASKED_FOR, None]
    assert reasons(*files, series=("contrast_agent=true",)) == [NOT_ASKED_FOR, NOT_ASKED_FOR]
    assert reasons(*files, series=("te_ms=12",)) == [None, NOT_ASKED_FOR]


def test_all_takes_everything_that_has_pixels() -> None:
    assert reasons(*stack(3, BodyPartExamined="KNEE"), series=("all",)) == [None]
    assert reasons(*stack(2, SOPClassUID=ROOT + "88.11", PixelData=None, Modality="SR"), series=("all",)) == ["no pixels"]


@pytest.mark.parametrize("word", ["everything", "description=x", "te_ms=short", "derived=perhaps"])
def test_a_series_word_that_is_not_understood_is_named(word: str) -> None:
    with pytest.raises(SelectionError, match=word.split("=")[0]):
        wanted([word])


def test_the_vocabulary_is_that_of_the_contract() -> None:
    assert tuple(REASONS) == (
        "no pixels", "not MR", "secondary capture or report", "localiser", "mosaic", "diffusion", "perfusion", "functional",
        "angiography or projection", "phase or field map", "derived map", "other body part", "mask or label map", "several volumes",
    )  # fmt: skip
    assert VOCABULARY[-1] == NOT_ASKED_FOR


@pytest.mark.parametrize(
    ("tags", "weighting"),
    [
        ({"EchoTime": 12, "RepetitionTime": 500}, "t1"),
        ({"EchoTime": 100, "RepetitionTime": 4000}, "t2"),
        ({"EchoTime": 100, "RepetitionTime": 9000, "InversionTime": 2500, "ScanningSequence": "IR"}, "flair"),
        ({"EchoTime": 20, "RepetitionTime": 2300}, "pd"),
        ({"EchoTime": 3, "RepetitionTime": 1900, "InversionTime": 1100, "ScanningSequence": ["GR", "IR"]}, "t1"),
        ({"EchoTime": 40, "RepetitionTime": 1200, "ScanningSequence": "GR"}, "t2star"),
        ({"EchoTime": None, "RepetitionTime": None, "SeriesDescription": "AX FLAIR"}, "flair"),
        ({"EchoTime": 12, "RepetitionTime": 500, "SeriesDescription": "AX T2"}, "t1"),  # times before words
        ({"EchoTime": None}, None),
    ],
)
def test_the_weighting_is_that_of_the_times(tags: dict[str, Any], weighting: str | None) -> None:
    assert grouped(*stack(2, **tags)).facts["1.2.3"].weighting == weighting


def test_an_enhanced_object_is_mr() -> None:
    assert reasons(*stack(2, SOPClassUID=ENHANCED)) == [None]
