"""Slices of NIfTI that show nothing but air: counted wherever an archive is spoken of, and no rows; runs of before keep theirs."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.images.formats.nifti import NiftiImage
from btc_ray.scoring import local
from btc_ray.storage import Place
from btc_ray.storage.tables import to_bytes
from btc_ray.studies.candidates import index_candidates
from tests.scoring.runs import rows, score, state
from tests.studies.case_files import FIVE_MM, VOLUME, shown_only
from tests.studies.made import nifti

SHOWN = (1, 2, 3, 5, 6)
SAID = "5 slices of NIfTI volumes show nothing but air and have no row."


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A volume of ten slices, five of which show something."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x_t1.nii.gz").write_bytes(gzip.compress(nifti(shown_only(*SHOWN), FIVE_MM)))
    return tmp_path / "in"


def test_they_are_counted_wherever_a_run_is_spoken_of(
    model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "5 images" in said
    assert SAID in said
    assert score(model, [archive], run) == 0
    assert SAID in capsys.readouterr().err
    assert rows(run)["slice_index"].tolist() == list(SHOWN)
    assert state(run)["studies"]["empty_slices"] == 5
    assert SAID in (run / "summary.html").read_text()
    assert main(["info", str(run)]) == 0
    assert SAID in capsys.readouterr().out
    series = pq.read_table(run / "series").to_pylist()[0]
    assert (series["slices"], series["rows_ok"], series["n_used"]) == (10, 5, 5 - series["n_reject"])


def test_a_run_of_before_they_were_left_out_goes_on_with_the_rows_that_it_has(model: Path, archive: Path, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NiftiImage, "empty", lambda image: np.zeros(image.frames, bool))
        patch.setattr(local, "_stage", stop)
        assert score(model, [archive], tmp_path / "run") == 130
    assert score(model, [archive], tmp_path / "run") == 0
    assert rows(tmp_path / "run")["slice_index"].tolist() == list(range(VOLUME.shape[2]))
    assert "empty_slices" in state(tmp_path / "run")["studies"]


def test_an_index_that_was_kept_is_taken_up_and_one_without_a_column_made_again(archive: Path, tmp_path: Path) -> None:
    (archive / "broken.nii").write_bytes(b"none")
    files = [{"row_id": number, "uri": str(path), "size": 1} for number, path in enumerate(sorted(archive.iterdir()))]
    kept = Place(str(tmp_path / "index"))
    whole = index_candidates(files, 2, cpus=1, kept=kept)
    assert whole["empty"].to_pylist().count(True) == 5
    (part,) = kept.files(".parquet")
    part.write(to_bytes(part.read_table().drop_columns(["empty"])))
    assert index_candidates(files, 2, cpus=1, kept=kept).equals(whole)
    for row in files:
        Path(row["uri"]).unlink()
    assert index_candidates(files, 2, cpus=1, kept=kept).equals(whole)
