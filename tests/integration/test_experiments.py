"""A grid on a real Ray Tune: the same runs as `retrain` makes, kept, continued after a kill, and never taken for those of another grid."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from tests.integration.trainings import SIZE, copy_cache

pytestmark = pytest.mark.ray

WEIGHTS = "random.safetensors"
GRID = "{optimizer: [sgd, nadam], learning_rate: [0.01], epochs: [4]}"
MANY = "{optimizer: [sgd], learning_rate: [0.01], epochs: [4, 60, 61, 62, 63, 64, 65, 66]}"  # the first stands in GRID too


@pytest.fixture(scope="module")
def place(bundle: Path, phantoms: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    """A folder with a first grid of two experiments and two seeds run, and its cache, which began with a bundle's features."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "grid.yaml").write_text(GRID)
    (folder / WEIGHTS).symlink_to(backbone)
    copy_cache(bundle, folder / "cache")
    assert main(command(phantoms, folder)) == 0
    return folder


def command(phantoms: Path, folder: Path, *flags: str, output: str = "out", grid: str = "grid.yaml") -> list[str]:
    places = ["--data", str(phantoms), "--output", str(folder / output), "--cache", str(folder / "cache")]
    weights = ["--weights", str(folder / WEIGHTS)]
    return ["experiments", *places, *weights, *SIZE, "--seeds", "2", "--grid", str(folder / grid), *flags]


def rows(folder: Path, output: str = "out") -> pd.DataFrame:
    return pq.read_table(folder / output / "experiments.parquet").to_pandas()


def runs_kept(folder: Path) -> dict[Path, int]:
    """Every run that is kept, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "cache" / "experiments").rglob("*.parquet")}


def test_the_output_has_all_rows_the_summary_the_figures_and_the_page(place: Path) -> None:
    found = rows(place)
    assert set(found["experiment"]) == {"SGD 0.01 · momentum 0.9 · cross-entropy · step", "NAdam 0.01 · cross-entropy · step"}
    counts = found.groupby(["experiment", "seed", "epoch", "split"]).size()
    assert len(counts) == 2 * 2 * 4 * 3
    assert (counts == 1).all()
    summary = json.loads((place / "out" / "summary.json").read_text())
    assert [one["rank"] for one in summary["experiments"]] == [1, 2]
    assert summary["experiments"][0]["settings"]["epochs"] == 4
    assert sum(summary["counts"]["test"].values()) + sum(summary["counts"]["train"].values()) < 60
    for one in summary["experiments"]:
        assert one["test_by_group"]["value"] == pytest.approx(one["test_accuracy"]["mean"])  # the same answers, another interval
    assert summary["experiments"][0]["test_difference"] is None
    assert summary["experiments"][1]["test_difference"] is not None
    assert summary["experiments"][0]["experiment"] in (place / "out" / "experiments.html").read_text()
    assert len(list((place / "out" / "figures").glob("*.png"))) == 5


def test_a_run_is_the_one_that_retrain_makes_of_the_same_recipe_and_seed(place: Path, phantoms: Path) -> None:
    flags = ["--train", "head", "--weights", str(place / WEIGHTS), "--size", "64", "--epochs", "4", "--optimizer", "sgd"]
    flags += ["--learning-rate", "0.01", "--cache", str(place / "cache"), "--precision", "fp32"]
    assert main(["retrain", "--data", str(phantoms), "--output", str(place / "model"), *flags]) == 0
    theirs = pq.read_table(place / "model" / "metrics.parquet").to_pandas()
    found = rows(place)
    mine = found[found["experiment"].str.startswith("SGD") & (found["seed"] == 0)]
    both = theirs.merge(mine, on=["epoch", "split"], suffixes=("", "_mine"))
    assert len(both) == len(theirs) > 0
    assert both["loss_mine"].tolist() == pytest.approx(both["loss"].tolist(), abs=1e-4)
    assert both["learning_rate_mine"].tolist() == pytest.approx(both["learning_rate"].tolist())


def test_the_same_command_runs_nothing_again_and_a_lost_run_comes_back_the_same(
    place: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, table = runs_kept(place), rows(place)
    lost = sorted(before)[1]
    lost.unlink()
    assert main(command(phantoms, place)) == 0
    said = capsys.readouterr()
    assert "4 runs, 3 of them kept from before" in said.err
    assert "╭" not in said.out, "Tune's own tables are not our results"
    after = runs_kept(place)
    assert set(after) == set(before)
    assert {path for path in after if after[path] != before[path]} == {lost}
    pd.testing.assert_frame_equal(rows(place), table)


def test_a_longer_grid_runs_what_is_new_and_no_more(place: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "longer.yaml").write_text(GRID.replace("nadam]", "nadam, adamw]"))
    assert main(command(phantoms, place, grid="longer.yaml", output="longer")) == 0
    assert "6 runs, 4 of them kept from before" in capsys.readouterr().err
    old = rows(place).sort_values(["experiment", "seed", "epoch", "split"], ignore_index=True)
    new = rows(place, "longer").sort_values(["experiment", "seed", "epoch", "split"], ignore_index=True)
    pd.testing.assert_frame_equal(new[~new["experiment"].str.startswith("AdamW")].reset_index(drop=True), old)


def test_a_run_does_not_depend_on_what_else_is_in_its_grid(place: Path, phantoms: Path) -> None:
    """A recipe without flips is standardised by features without flips, also beside one that has them."""
    (place / "alone.yaml").write_text("{optimizer: sgd, learning_rate: 0.01, flips: false, epochs: 4}")
    (place / "beside.yaml").write_text("{optimizer: sgd, learning_rate: 0.01, flips: [false, true], epochs: 4}")
    # Crops and features are shared, runs are not: one cache has those of both grids.
    shutil.copytree(place / "cache", place / "alone", ignore=shutil.ignore_patterns("experiments", "train"))
    flags = ("--seeds", "1")
    assert main(command(phantoms, place, "--cache", str(place / "alone"), *flags, grid="alone.yaml", output="alone-out")) == 0
    assert main(command(phantoms, place, *flags, grid="beside.yaml", output="beside-out")) == 0
    found, expected = rows(place, "beside-out"), rows(place, "alone-out")
    found = found[found["experiment_id"] == expected["experiment_id"][0]]
    assert len(found) == len(expected) == 12
    assert found["loss"].tolist() == pytest.approx(expected["loss"].tolist(), abs=1e-6)


def test_another_split_shares_no_run_and_a_driver_that_is_killed_loses_no_finished_one(
    place: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "many.yaml").write_text(MANY)
    before, split = set(runs_kept(place)), ("--seed", "1")
    with process(
        command(phantoms, place, *split, "--address", "local", grid="many.yaml", output="many"), place / "log"
    ) as driver:
        deadline = time.monotonic() + 240
        while len(runs_kept(place)) < len(before) + 3 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    log = (place / "log").read_text()
    assert "16 runs.\n" in log, "what was run on another split is taken for a run on this one"
    done = {path: when for path, when in runs_kept(place).items() if path not in before}
    assert 3 <= len(done) < 16, log
    assert not (place / "many").exists()
    assert main(command(phantoms, place, *split, grid="many.yaml", output="many")) == 0
    assert f"16 runs, {len(done)} of them kept from before" in capsys.readouterr().err
    after = runs_kept(place)
    assert {path: after[path] for path in done} == done
    sizes = rows(place, "many").groupby(["experiment", "seed"]).size().unique().tolist()
    assert sorted(sizes) == [3 * epochs for epochs in (4, *range(60, 67))]


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The command as a process with a session of its own; whatever it started is gone at the end, killed by id where it has to be."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with log.open("ab") as sink:
        driver = subprocess.Popen(
            [sys.executable, "-m", "btc_ray.cli", *arguments], stdout=sink, stderr=sink, env=environment, start_new_session=True
        )
    try:
        yield driver
    finally:
        if driver.poll() is None:
            driver.kill()
        driver.wait()
        left = []
        for item in psutil.process_iter():
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(item.pid) == driver.pid:
                    left.append(item)
        for item in left:
            with suppress(psutil.NoSuchProcess):
                item.kill()
        psutil.wait_procs(left, timeout=10)


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ("{lerning_rate: [1]}", [], "lerning_rate is no setting of a recipe"),
        ("{epochs: [1, 2, 3]}", ["--max-experiments", "2"], "3 combinations, more than 2"),
        (None, [], "cannot be read"),
    ],
)
def test_an_unusable_grid_ends_with_code_2_before_anything_runs(
    content: str | None, flags: list[str], words: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "grid.yaml").write_text(content)
    assert main(command(phantoms, tmp_path, *flags)) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_something_else_is_left_alone(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("chapter 1")
    (tmp_path / "grid.yaml").write_text(GRID)
    assert main(command(phantoms, tmp_path)) == 4
    assert "thesis.txt" in capsys.readouterr().err
