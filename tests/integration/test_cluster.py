"""Jobs submitted from outside to a real cluster of three nodes, one of which is killed in the middle."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray.model.bundle import read_bundle
from tests.integration.clusters import ThreeNodes, submit, three_nodes
from tests.scoring.runs import rows, score, state

pytestmark = pytest.mark.ray

COPIES = 150  # times 20 phantoms

TRAINING = ("--train", "all", "--size", "64", "--resolutions", "64", "--epochs", "12", "--batch-size", "8")


@pytest.fixture(scope="module")
def nodes() -> Iterator[ThreeNodes]:
    with three_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(model: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every node sees: a model, and an archive of 3,000 images."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(model, folder / "model")
    shutil.copytree(phantoms, folder / "phantoms")
    images = sorted((phantoms / "Testing").rglob("*.*"))
    for copy in range(COPIES):
        for image in images:
            target = folder / "archive" / f"{copy:03d}" / image.parent.name / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(folder / "phantoms" / image.relative_to(phantoms))
    return folder


def _until(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> int:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(log.read_text()) from None


def _equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    floats = [name for name in found.columns if found[name].dtype == "float32"]
    assert found.drop(columns=floats).equals(expected.drop(columns=floats))
    assert (found[floats] - expected[floats]).abs().to_numpy().max() < 1e-4


def test_a_lost_node_costs_no_row_and_repeats_none(nodes: ThreeNodes, place: Path, tmp_path: Path) -> None:
    assert score(place / "model", [place / "archive"], tmp_path / "here", "--local-rows", "100000") == 0
    log, run = tmp_path / "log", place / "run"
    words = ("score", "--model", place / "model", "--input", place / "archive", "--output", run, "--local-rows", 0)
    process = submit(nodes, place, *words, log=log)
    staged = run / "_work" / "staged-ray"
    _until(lambda: staged.exists() and len(list(staged.glob("*.parquet"))) >= 2, process, log)
    nodes.kill_worker(nodes.workers[0])
    joined = nodes.add_worker()  # as a spot node comes after another has gone
    _until(lambda: bool(_running(joined, "_ScoringActor")), process, log)
    assert _end(process, log) == 0, log.read_text()
    assert state(run)["sessions"][0]["images"] == 20 * COPIES, "one session, and no second submission"
    _equal(rows(run), rows(tmp_path / "here"))
    # The same command again: the job is found, its log and exit code are told, nothing runs.
    again = submit(nodes, place, *words, log=tmp_path / "again")
    assert _end(again, tmp_path / "again") == 0
    told = (tmp_path / "again").read_text()
    assert "complete already" in told
    assert "submitted" not in told
    assert f"scores       {run}/scores" in told


def test_a_node_lost_in_the_middle_of_training_leaves_the_same_model(nodes: ThreeNodes, place: Path, tmp_path: Path) -> None:
    log, metrics = tmp_path / "log", {}
    words = ("retrain", "--data", place / "phantoms", "--weights", "none", *TRAINING)
    assert _end(submit(nodes, place, *words, "--output", place / "undisturbed" / "model", log=log), log) == 0, log.read_text()
    disturbed = submit(nodes, place, *words, "--output", place / "disturbed" / "model", log=log)
    begun = log.read_text().count("epoch 2/12")
    _until(lambda: log.read_text().count("epoch 2/12") > begun, disturbed, log)
    nodes.kill_worker(_node_that_trains(nodes))
    assert _end(disturbed, log) == 0, log.read_text()
    for name in ("undisturbed", "disturbed"):
        metrics[name] = pq.read_table(place / name / "model" / "metrics.parquet").to_pylist()
        assert len(metrics[name]) == 2 * 12, "every epoch once"
    models = [read_bundle(str(place / name / "model")).model_id for name in ("undisturbed", "disturbed")]
    assert models[0] == models[1]
    nodes.add_worker()


def _node_that_trains(nodes: ThreeNodes) -> Any:
    return next(node for node in nodes.workers if _running(node, "RayTrainWorker"))


def _running(node: Any, name: str) -> list[psutil.Process]:
    """The processes of a node with `name` in their title."""
    children = psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
    return [child for child in children if name in " ".join(child.cmdline())]
