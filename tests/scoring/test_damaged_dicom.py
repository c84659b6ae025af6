"""Damaged DICOM and NIfTI files: each is a row or counted as skipped, the decoders end. benchmarks.fuzz_dicom tries 2,300 of them."""

from pathlib import Path

import psutil
import pytest

from benchmarks.fuzz_dicom import mutants, outcome, write
from benchmarks.sound_dicom import dicom_files, nifti_files
from btc_ray.images.formats import frame_pool
from tests.scoring.runs import score

DICOM, NIFTI = 50, 12


def test_every_damaged_file_is_a_row_with_its_reason(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_pool, "SECONDS", 1)
    folder, run = tmp_path / "files", tmp_path / "run"
    write(folder, mutants((dicom_files(), nifti_files()), 1, range(DICOM), range(NIFTI)))
    assert score(model, [folder], run, "--series", "all") in (0, 3)
    found = outcome(folder, run)
    assert (found["files"], found["lost"], found["failed"]) == (DICOM + NIFTI, [], 0)
    assert found["status"]["ok"] > 10
    assert found["status"]["unreadable"] > 10
    frame_pool.close()
    decoders = [child for child in psutil.Process().children() if "frame_child.py" in " ".join(child.cmdline())]
    assert decoders == []
