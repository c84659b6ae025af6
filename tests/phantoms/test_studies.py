"""The archive of synthetic studies is what it says: exams, series that count and that do not, and no file that cannot be read."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.phantoms.studies import write_studies
from btc_ray.scoring.state import read_state
from btc_ray.storage import Place


def test_its_exams_are_scored_series_by_series_and_nothing_is_left_out_unsaid(model: Path, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", seed=3, side=96)
    assert len(files) == len(set(files)) == sum(path.is_file() for path in (tmp_path / "in").rglob("*"))
    assert main(["score", "--model", str(model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "run")]) == 0
    scores = pq.read_table(tmp_path / "run" / "scores").to_pandas()
    assert set(scores["status"]) == {"ok"}
    found = read_state(Place(str(tmp_path / "run"))).studies
    assert (found["series"], found["series_selected"], found["exams"], found["duplicates"]) == (12, 7, 4, 1)
    assert found["unselected"] == {"no pixels": 3, "localiser": 1, "diffusion": 1}
    exams = pq.read_table(tmp_path / "run" / "exams").to_pandas()
    assert sorted(exams["exam_number"]) == [1, 1, 1, 2], "one patient came twice"
    series = pq.read_table(tmp_path / "run" / "series").to_pandas()
    assert set(series["manufacturer"].dropna()) == {"Siemens", "GE", "Philips"}
    assert set(series["plane"].dropna()) == {"axial", "coronal", "sagittal"}


def test_a_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate((5, 5, 6)):
        paths = [path for path in write_studies(tmp_path / str(number), seed=seed, side=96) if path.suffix != ".json"]
        pixels = [path for path in paths if not path.name.startswith("SR") and path.suffix == ""]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in pixels])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


@pytest.mark.parametrize(("seed", "side"), [(-1, 96), (0, 8)])
def test_what_cannot_be_drawn_is_refused(seed: int, side: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed|side"):
        write_studies(tmp_path, seed=seed, side=side)
