"""Cases of real archives, listed and prepared as a run does it: what becomes of each file, by the number it has in the issue.

What a single frame or header comes to stands in tests/images/formats and beside this file; here stands what a whole archive makes of it.
"""

import gzip
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.studies import made
from tests.studies.archives import outcome
from tests.studies.case_files import (
    FIVE_MM,
    NII,
    ROOT,
    SIDE,
    VOLUME,
    cut_enhanced,
    dicom,
    disc,
    pair,
    patched,
    pixels,
    report,
    shown_only,
    slices,
    under,
    without_its_syntax,
    zipped,
)
from tests.studies.made import SAGITTAL, nifti

OK3 = {"ok": 3}
DIRT = np.arange(20 * 22).reshape(20, 22, 1) < 8  # pixels of a slice: less than 2 % of it


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files and what is to become of them: rows by status, a word of each error, series that are not scored by reason, files that are no
    rows by a word of their reason, some of what run.json counts of series, or why there is nothing."""

    files: Callable[[], Mapping[str, bytes]]
    status: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    refused: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)


BIDS = {
    "dataset_description.json": b"{}",
    "participants.tsv": b"participant_id",
    "sub-01/anat/sub-01_T1w.json": b"{}",
    "sub-01/anat/sub-01_T1w.nii.gz": gzip.compress(NII),
    "derivatives/fmriprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz": gzip.compress(NII),
    "sourcedata/sub-01/IM0": dicom(),
}
CD = {
    "DICOMDIR": disc("DICOM/IM0", "DICOM/IM1", "DICOM/IM2"), "autorun.inf": b"[autorun]", "viewer.exe": b"MZ",
    "HELP/index.htm": b"<html>", **under("DICOM", slices()),
}  # fmt: skip
CASES = {
    "3 names without, with a numeric, a UID's and odd extensions": Case(
        files=lambda: dict(zip(["IM1", "IM.0002", "1.2.840.113619.4", "a.IMG", "b.DCM", "c.ima"], slices(6).values(), strict=True)),
        status={"ok": 6},
    ),
    "4 and 5 names of the other kind": Case(
        files=lambda: {"a.jpg": dicom(), "b.dcm": dicom(5, 1)}, status={"ok": 2}
    ),
    "6 what is called DICOM and is not": Case(
        files=lambda: {"a.dcm": b"<html>", "b.dcm": b"", "c.dcm": bytes(128) + b"DICM", **slices()},
        status={"ok": 3, "unreadable": 3},
        errors=("neither DICOM nor NIfTI", "empty", "no pixel data"),
    ),
    "7 cut before and within the pixels": Case(
        files=lambda: {"a.dcm": dicom()[:700], "b.dcm": dicom(5, 1)[:-100], "c.dcm": dicom(10, 2)[:-2], "d.dcm": dicom(15, 3)},
        status={"ok": 1, "unreadable": 3},
        errors=("cut short",),
    ),
    "11 trailing bytes": Case(files=lambda: {"a": dicom() + bytes(999)}, status={"ok": 1}),
    "12 packed by gzip": Case(files=lambda: {"a.dcm.gz": gzip.compress(dicom())}, status={"ok": 1}),
    "13 syntaxes that nobody decodes": Case(
        files=lambda: {"a": without_its_syntax(b"1.2.840.113619.5.2"), "b": without_its_syntax(b"1.2.840.10008.1.9.9")},
        status={"unsupported": 2},
        errors=("transfer syntax (private)",),
    ),
    "17 and 18 numbers that lie": Case(
        files=lambda: {
            "a": dicom(Rows=65535, Columns=65535), "b": dicom(NumberOfFrames=100_000), "c": dicom(NumberOfFrames=0),
            "d": dicom(Rows=None), **slices(),
        },
        status={"ok": 3, "unreadable": 4},
        errors=("shorter", "NumberOfFrames", "Rows or Columns"),
    ),
    "20 no UIDs and nobody's": Case(
        files=lambda: slices(SOPInstanceUID=None, SeriesInstanceUID=None, StudyInstanceUID=None, PatientID=None, StudyDate=None),
        status=OK3,
    ),
    "30 colours": Case(
        files=lambda: {**slices(), "c": dicom(SeriesInstanceUID="9", SamplesPerPixel=3, PhotometricInterpretation="RGB")},
        status=OK3,
        reasons={"secondary capture or report": 1},
    ),
    "33 no orientation": Case(files=lambda: slices(orientation=None), status=OK3),
    "39 one slice": Case(files=lambda: slices(1), status={"ok": 1}),
    "40 one UID of two slices": Case(
        files=lambda: {"a": dicom(0, 0, SOPInstanceUID="1.7"), "b": dicom(5, 1, SOPInstanceUID="1.7")}, status={"ok": 2}
    ),
    "42 an enhanced object that is cut": Case(
        files=lambda: {"e": cut_enhanced()},
        status={"ok": 7, "unreadable": 3},
        errors=("cut short",),
    ),
    "44 a mosaic is never one picture": Case(
        files=lambda: slices(1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
        status={"unsupported": 1},
        errors=("mosaic",),
        flags={"series": ("all",)},
    ),
    "45 objects that hold no picture": Case(
        files=lambda: {
            "sr": report("88.33", "SR"), "pr": report("11.1", "PR"), "ko": report("88.59", "KO"), "seg": report("66.4", "SEG"),
            "pdf": report("104.1", "DOC"), "stl": report("104.3", "M3D"), "rt": report("481.3", "RTSTRUCT"), "raw": report("66", "MR"),
            "mrs": report("4.2", "MR"), "reg": report("66.1", "REG"), **slices(SeriesInstanceUID="1.8"),
        },
        status=OK3,
        skipped=("series not selected: no pixels",),
    ),
    "49 other modalities and parts": Case(
        files=lambda: {
            "ct": dicom(SOPClassUID=ROOT + "2", Modality="CT", SeriesInstanceUID="8.1"),
            "pet": dicom(SOPClassUID=ROOT + "128", Modality="PT", SeriesInstanceUID="8.2"),
            "us": dicom(SOPClassUID=ROOT + "6.1", Modality="US", SeriesInstanceUID="8.3"),
            "knee": dicom(BodyPartExamined="KNEE", SeriesInstanceUID="8.4"),
            **slices(),
        },
        status=OK3,
        reasons={"not MR": 3, "other body part": 1},
    ),
    "53 MR without pixels": Case(
        files=lambda: {"a": dicom(PixelData=None), **slices()}, status={"ok": 3, "unreadable": 1}, errors=("no pixel data",)
    ),
    "54 a DICOMDIR with a missing file": Case(
        files=lambda: {**CD, "DICOMDIR": disc("DICOM/IM0", "DICOM/IM1", "DICOM/IM2", "DICOM/IM3")},
        status={"ok": 3, "failed": 1},
        errors=("the index of its disc names this image",),
        skipped=("(DICOMDIR)",),
    ),
    "54 a disc that was copied under other names": Case(
        files=lambda: {"DICOMDIR": CD["DICOMDIR"], **{f"dicom/im{at};1": data for at, data in enumerate(slices().values())}},
        status=OK3,
        skipped=("(DICOMDIR)",),
    ),
    "54 a DICOMDIR of missing files alone": Case(
        files=lambda: {"DICOMDIR": disc("D/A", "D/B"), "D/A": dicom(BodyPartExamined="KNEE")}, refused="1 × other body part"
    ),
    "55 a DICOMDIR without its files": Case(files=lambda: {"DICOMDIR": CD["DICOMDIR"]}, refused="(DICOMDIR)"),
    "56 a CD with its viewer": Case(files=lambda: CD, status=OK3, skipped=("(.exe)", "(.inf)", "(.htm)", "(DICOMDIR)")),
    "56 the same in a zip": Case(
        files=lambda: {"cd.zip": zipped(under("CD", CD))}, status=OK3, skipped=("(.exe)", "(.inf)", "(.htm)", "(DICOMDIR)")
    ),
    "58 a series loose and in a zip": Case(
        files=lambda: {**under("x", slices(SOPInstanceUID="1.5", count=1)), "x.zip": zipped(slices(SOPInstanceUID="1.5", count=1))},
        status={"ok": 2},
    ),
    "62 a pair, NIfTI-1": Case(files=lambda: pair(nibabel.Nifti1Pair), status={"ok": 10}),
    "62 a pair, NIfTI-1, big-endian": Case(files=lambda: pair(nibabel.Nifti1Pair, order=">"), status={"ok": 10}),
    "62 a pair, NIfTI-2": Case(files=lambda: pair(nibabel.Nifti2Pair), status={"ok": 10}),
    "62 a header without its voxels": Case(
        files=lambda: {"v.hdr": pair(nibabel.Nifti1Pair)["v.hdr"]}, status={"unsupported": 10}, errors=("without its .img",)
    ),
    "62 Analyze": Case(
        files=lambda: pair(nibabel.AnalyzeImage), status={"unsupported": 1}, errors=("which side is left",)
    ),
    "63 time": Case(files=lambda: {"x.nii": nifti(np.stack([VOLUME] * 3, -1), FIVE_MM)}, refused="1 × several volumes"),
    "63 time, all asked for": Case(
        files=lambda: {"x.nii": nifti(np.stack([VOLUME] * 3, -1), FIVE_MM)}, status={"ok": 10}, flags={"series": ("all",)}
    ),
    "63 one time": Case(files=lambda: {"x.nii": nifti(VOLUME[..., None], FIVE_MM)}, status={"ok": 10}),
    "64 masks and label maps": Case(
        files=lambda: {
            "BraTS20_seg.nii": nifti((VOLUME > 500).astype(np.uint8) * 4, FIVE_MM), "BraTS20_t1ce.nii": NII,
            "unnamed.nii": nifti((VOLUME > 500).astype(np.float32), FIVE_MM), "sub-01_desc-brain_mask.nii": NII,
        },
        status={"ok": 10},
        reasons={"mask or label map": 3},
    ),
    "65 colours and complex numbers": Case(
        files=lambda: {
            "a.nii": nifti(np.zeros((20, 22, 10), [("R", "u1"), ("G", "u1"), ("B", "u1")]), FIVE_MM),
            "b.nii": nifti(VOLUME.astype(np.complex64), FIVE_MM),
        },
        status={"unsupported": 20},
        errors=("colours or complex numbers",),
    ),
    "66 NaN outside, and scales that are none": Case(
        files=lambda: {
            "a.nii": nifti(np.where(VOLUME < 300, np.nan, VOLUME).astype(np.float32), FIVE_MM),
            "b.nii": patched(NII, "<2f", 112, float("nan"), float("nan")),
            "c.nii": patched(NII, "<2f", 112, 0.0, 0.0),
            "d.nii": nibabel.Nifti1Image(VOLUME.astype(np.int64), FIVE_MM, dtype=np.int64).to_bytes(),
        },
        status={"ok": 40},
    ),
    "67 no codes, and an affine of no numbers": Case(
        files=lambda: {"a.nii": nifti(VOLUME, FIVE_MM, codes=0), "b.nii": patched(NII, "<12f", 280, *[float("nan")] * 12)},
        status={"ok": 20},
    ),
    "68 two dimensions, and one slice": Case(
        files=lambda: {"a.nii": nifti(VOLUME[:, :, 0], FIVE_MM), "b.nii": nifti(VOLUME[:, :, :1], FIVE_MM)}, status={"ok": 2}
    ),
    "NIfTI slices of air": Case(
        files=lambda: {"a.nii": nifti(shown_only(2, 3, 5), FIVE_MM), "b.nii.gz": gzip.compress(nifti(shown_only(7), FIVE_MM))},
        status={"ok": 4},
        counts={"empty_slices": 16, "series_selected": 2},
    ),
    "volumes of air alone, and of one grey": Case(
        files=lambda: {"a.nii": nifti(VOLUME * DIRT, FIVE_MM), "b.nii": nifti(VOLUME * 0, FIVE_MM)},
        status={"ok": 10},
        skipped=("no slice shows more than air",),
        counts={"empty_slices": 10},
    ),
    "slices of air of a series that is not scored": Case(
        files=lambda: {"a_mask.nii": nifti(shown_only(2), FIVE_MM), "b.nii": NII},
        status={"ok": 10},
        reasons={"mask or label map": 1},
        counts={"empty_slices": 0},
    ),
    "69 cut, empty, and pointers to what is not here": Case(
        files=lambda: {
            "a.nii": NII[:600], "b.nii.gz": b"", "c.nii.gz": b"/annex/objects/MD5E-s123--abc.nii.gz\n",
            "d.nii": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
        },
        status={"unreadable": 13},
        errors=("cut short", "empty", "`git annex get`", "`git lfs pull`"),
    ),
    "70 plain, and called .gz": Case(files=lambda: {"a.nii.gz": NII}, status={"ok": 10}),
    "71 a bomb, a huge claim, another size of the header": Case(
        files=lambda: {
            "a.nii.gz": gzip.compress(bytes(8 << 20)), "b.nii": patched(NII, "<3h", 42, 32767, 32767, 32767),
            "c.nii": patched(NII, "<i", 0, 99),
        },
        status={"unreadable": 3},
        errors=("neither DICOM nor NIfTI", "claims more", "header is damaged"),
    ),
    "72 and 73 a BIDS data set": Case(
        files=lambda: BIDS, status={"ok": 10}, skipped=("derivatives of a BIDS data set", "sourcedata of a", "(.json)", "(.tsv)")
    ),
    "72 the same in a zip": Case(
        files=lambda: {"ds.zip": zipped(under("ds", BIDS))},
        status={"ok": 10},
        skipped=("derivatives of a BIDS data set", "sourcedata of a"),
    ),
    "72 a folder called so in no BIDS data set": Case(files=lambda: under("derivatives", slices()), status=OK3),
    "72 PET and CT by their names in BIDS": Case(
        files=lambda: {"sub-01_T1w.nii": NII, "sub-01_pet.nii": NII, "sub-01_ct.nii": NII}, status={"ok": 10}, reasons={"not MR": 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_file_is_a_row_or_a_count_with_its_reason(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    found = outcome(tmp_path, case.files(), **case.flags)
    if case.refused is not None:
        assert case.refused in (found.refused or "")
        return
    assert found.refused is None
    assert found.status == case.status
    for word in case.errors:
        assert any(word in error for error in found.errors), found.errors
    assert all(any(word in error for word in case.errors) for error in found.errors), found.errors
    if case.reasons:
        assert found.reasons == case.reasons
    for word in case.skipped:
        assert any(word in reason for reason in found.skipped), found.skipped
    assert {name: found.studies[name] for name in case.counts} == case.counts


def test_derivatives_that_are_named_are_entered(tmp_path: Path) -> None:
    assert outcome(tmp_path, BIDS, input=str(tmp_path / "in" / "derivatives")).status == {"ok": 10}
    assert outcome(tmp_path / "glob", BIDS, input=str(tmp_path / "glob" / "in" / "deriv*")).status == {"ok": 10}


def test_files_of_an_annex_that_are_not_here_are_rows_that_say_how_to_bring_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub-01_T1w.nii.gz").symlink_to(".git/annex/objects/x/y/MD5E-s1--z.nii.gz")
    found = outcome(tmp_path, {"sub-02_T1w.nii": NII})
    assert found.status == {"ok": 10, "failed": 1}
    assert "git annex get" in found.errors[0]


def test_a_pair_gives_the_pictures_of_the_single_file(tmp_path: Path) -> None:
    single = outcome(tmp_path / "one", {"v.nii": NII})
    for number, files in enumerate([pair(nibabel.Nifti1Pair), pair(nibabel.Nifti2Pair), pair(nibabel.Nifti1Pair, order=">")]):
        found = outcome(tmp_path / str(number), files)
        assert [row["pixels"] for row in found.rows] == [row["pixels"] for row in single.rows]
        assert [row["plane"] for row in found.rows] == ["axial"] * 10


def test_slices_that_show_something_keep_their_numbers_and_places(tmp_path: Path) -> None:
    whole, some = (
        outcome(tmp_path / name, {"v.nii": data})
        for name, data in (("whole", NII), ("some", nifti(shown_only(2, 3, 5), FIVE_MM)))
    )
    rows = [row for row in whole.rows if row["slice_index"] in (2, 3, 5)]
    for name in ("frame", "slice_index", "position_mm", "plane", "pixels"):
        assert [row[name] for row in some.rows] == [row[name] for row in rows]


def test_files_without_a_series_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(tmp_path, slices(SeriesInstanceUID=None))
    assert len(found.series) == 3
    assert "3 files have no SeriesInstanceUID" in capsys.readouterr().err


def test_a_short_name_takes_no_letter_out_of_an_error(tmp_path: Path) -> None:
    (error,) = outcome(tmp_path, {"a": without_its_syntax(b"1.2.840.113619.5.2")}).errors
    assert error == "the transfer syntax (private) is not taken; export it uncompressed"


@pytest.mark.parametrize(
    ("one", "other"),
    [({"PatientID": "A1"}, {"PatientID": "B1"}), ({"PatientSex": "M"}, {"PatientSex": "F", "StudyInstanceUID": "6.2"})],
    ids=["one study of two ids", "one id of two people"],
)  # fmt: skip
def test_60_identities_in_conflict_are_flagged(tmp_path: Path, one: dict[str, str], other: dict[str, str]) -> None:
    found = outcome(tmp_path, {"a": dicom(SeriesInstanceUID="7.1", **one), "b": dicom(5, 1, SeriesInstanceUID="7.2", **other)})
    assert [row["patient_conflict"] for row in found.series] == [True, True]


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller"), ("ISO_IR 144", "Иванов"), ("ISO 2022 IR 87", "Yamada"), ("ISO_IR 192", "山田"), ("NONSENSE", "x")],
)
def test_61_a_character_set_is_never_a_failure(tmp_path: Path, charset: str, name: str) -> None:
    with warnings.catch_warnings():  # pydicom's, about what is made here
        warnings.simplefilter("ignore")
        files = slices(SpecificCharacterSet=charset, PatientName=name, PatientID=name, SeriesDescription=name)
    assert outcome(tmp_path, files).status == OK3


def test_61_text_in_no_character_set_is_no_failure(tmp_path: Path) -> None:
    tags = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "AAAA", "SeriesDescription": "BBBB"}
    damaged = dicom(**tags).replace(b"AAAA", b"\xff\xfe\xfa\x80").replace(b"BBBB", b"\x81\x30\xff\xff")
    assert outcome(tmp_path, {"a": damaged}).status == {"ok": 1}


def test_38_two_orientations_in_a_series_are_two_stacks_of_it(tmp_path: Path) -> None:
    turned = {
        f"s{at}": made.dicom((5.0 * at, 0, 0), SAGITTAL, Rows=SIDE, Columns=SIDE, PixelData=pixels(seed=at).tobytes())
        for at in range(4)
    }
    found = outcome(tmp_path, {**slices(4), **turned})
    assert [(one["stacks"], one["slices"], one["selected"]) for one in found.series] == [(2, 8, True)]
    assert {row["plane"] for row in found.rows} == {"axial", "sagittal"}


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("ASSET calibration", "localiser"), ("SENSE ref", "localiser"), ("SmartBrain", "localiser"), ("dADC Map", "derived map"),
        ("MoCoSeries", "functional"), ("EvaSeries_GLM", "functional"), ("Screen Save", "secondary capture or report"),
        ("AX FSPGR 3D BRAVO", None), ("Ax T1 FAT SAT POST", None), ("sT1W_3D_TFE SENSE", None), ("MPR cor", None),
    ],
)  # fmt: skip
def test_what_scanners_call_their_series(tmp_path: Path, description: str, reason: str | None) -> None:
    found = outcome(tmp_path, {**slices(SeriesDescription=description), **slices(prefix="t", SeriesInstanceUID="1.99")})
    assert found.reasons == ({} if reason is None else {reason: 1})
