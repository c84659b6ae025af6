"""Jobs submitted from outside to a real cluster of three nodes, one of which is killed in the middle."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place
from tests.integration.clusters import ThreeNodes, submit, three_nodes
from tests.integration.trainings import retrain
from tests.scoring.runs import rows, score, state

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]  # a minute or two each, and much longer on a machine that is busy

COPIES = 400  # times 20 phantoms: a minute and a half, in which a node is lost, another hangs, and a third joins

TRAINING = ("--train", "all", "--size", "64", "--resolutions", "64", "--epochs", "6", "--batch-size", "8")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    with three_nodes(tmp_path_factory.mktemp("nodes") / "log") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def place(model: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every node sees: a model, and an archive of 8,000 images."""
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


def _until(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes], log: Path, seconds: float = 600) -> int:
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(log.read_text()) from None


def _equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    floats = [name for name in found.columns if found[name].dtype == "float32"]
    assert found.drop(columns=floats).equals(expected.drop(columns=floats))
    np.testing.assert_allclose(found[floats], expected[floats], rtol=1e-4, atol=1e-4)


def test_a_detached_job_is_found_again_and_neither_a_lost_nor_a_hanging_node_costs_a_row(
    nodes: ThreeNodes, place: Path, tmp_path: Path
) -> None:
    assert score(place / "model", [place / "archive"], tmp_path / "here", "--local-rows", "100000") == 0
    sent, log, run = tmp_path / "sent", tmp_path / "log", place / "run"
    words = ("score", "--model", place / "model", "--input", place / "archive", "--output", run, "--local-rows", 0)
    process = submit(nodes, place, *words, log=sent)
    _until(lambda: "Running entrypoint" in sent.read_text(), process, sent)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    assert _end(process, sent) == 130
    assert "Detached; the job goes on." in sent.read_text()
    submission = re.search(r"--attach (\S+)", sent.read_text())
    assert submission is not None

    process = submit(nodes, place, "--attach", submission[1], log=log)
    _until(lambda: _staged(run) >= 2 and all(node.running("_ScoringActor") for node in nodes.workers), process, log)
    nodes.kill_worker(nodes.workers[0])
    hanging = nodes.workers[0].running("_ScoringActor")
    assert hanging
    for worker in hanging:
        worker.suspend()
    joined = nodes.add_worker()  # as a spot node comes after another has gone
    _until(lambda: bool(joined.running("_ScoringActor")), process, log)
    before = _staged(run)
    _until(lambda: _staged(run) >= before + 2, process, log)
    for worker in hanging:
        worker.resume()
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


def _staged(run: Path) -> int:
    return len(list((run / "_work" / "staged-ray").glob("*.parquet"))) if run.exists() else 0


def test_a_node_lost_in_the_middle_of_training_leaves_the_model_of_a_laptop(
    nodes: ThreeNodes, place: Path, tmp_path: Path, ray_here: None
) -> None:
    log, metrics = tmp_path / "log", {}
    assert retrain(place / "phantoms", place / "undisturbed" / "model", *TRAINING) == 0
    words = ("retrain", "--data", place / "phantoms", "--weights", "none", *TRAINING)
    # The same crops, and nothing that Ray Train could take up as its own.
    caches = (place / name / ".btc-ray-cache" for name in ("undisturbed", "disturbed"))
    shutil.copytree(*caches, ignore=shutil.ignore_patterns("train"))
    disturbed = submit(nodes, place, *words, "--output", place / "disturbed" / "model", log=log)
    _until(lambda: "epoch 2/6" in log.read_text(), disturbed, log)
    nodes.kill_worker(next(node for node in nodes.workers if node.running("RayTrainWorker")))
    assert _end(disturbed, log) == 0, log.read_text()
    for name in ("undisturbed", "disturbed"):
        metrics[name] = pq.read_table(place / name / "model" / "metrics.parquet").to_pylist()
        assert len(metrics[name]) == 2 * 6, "every epoch once"
    models = [read_bundle(Place(str(place / name / "model"))).model_id for name in ("undisturbed", "disturbed")]
    assert models[0] == models[1]


def test_a_job_that_fails_returns_its_code_and_says_why(nodes: ThreeNodes, place: Path, tmp_path: Path) -> None:
    (place / "taken").mkdir()
    (place / "taken" / "thesis.docx").write_bytes(b"years of work")
    words = ("score", "--model", place / "model", "--input", place / "archive", "--output", place / "taken")
    process = submit(nodes, place, *words, "--detach", log=tmp_path / "sent")
    assert _end(process, tmp_path / "sent") == 0
    submission = re.search(r"submitted +(\S+)", (tmp_path / "sent").read_text())
    assert submission is not None
    process = submit(nodes, place, "--attach", submission[1], log=tmp_path / "log")
    assert _end(process, tmp_path / "log") == 4
    told = (tmp_path / "log").read_text()
    assert "is not empty and not a run folder (it holds thesis.docx)" in told
    assert f"{submission[1]} failed: Job entrypoint command failed with exit code 4" in told


def test_a_cluster_does_not_take_jobs_from_strangers(nodes: ThreeNodes, place: Path, tmp_path: Path) -> None:
    process = submit(nodes, place, "--attach", "anything", log=tmp_path / "log", token={})
    assert _end(process, tmp_path / "log") == 2
    assert "RAY_AUTH_MODE=token" in (tmp_path / "log").read_text()
    process = submit(nodes, place, "--attach", "btc-ray-nothing", log=tmp_path / "known")
    assert _end(process, tmp_path / "known") == 2
    assert "this cluster has no submission btc-ray-nothing" in (tmp_path / "known").read_text()
