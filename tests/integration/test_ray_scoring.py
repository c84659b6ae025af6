"""Scoring on a real Ray: the same rows as in one process, and none lost or repeated whatever is killed."""

import os
import random
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray.scoring import finish
from tests.scoring.runs import rows, score, start, state
from tests.scoring.test_run import everything, signed_site

pytestmark = pytest.mark.ray

COPIES = 60  # times 20 phantoms: 1,200 rows, long enough to be killed in the middle


@pytest.fixture(scope="module")
def archive(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of phantoms, each many times, and a few members that are no images."""
    path = tmp_path_factory.mktemp("archive") / "night.zip"
    images = sorted((phantoms / "Testing").rglob("*.*"))
    with zipfile.ZipFile(path, "w") as archive:
        for copy in range(COPIES):
            for image in images:
                archive.write(image, f"{copy:03d}/{image.parent.name}/{image.name}")
            archive.writestr(f"{copy:03d}/broken.jpg", b"\xff\xd8 not much of a JPEG")
    return path


@pytest.fixture(scope="module")
def undisturbed(model: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same archive scored in this process."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert score(model, [archive], run, "--local-rows", "100000", "--batch-size", "8") == 0
    return run


@contextmanager
def command(model: Path, archive: Path, run: Path, log: Path, *, code: int = 0) -> Iterator[psutil.Process]:
    """The command as a process that ends with `code`, on a Ray of its own; whatever it started is gone at the end, killed by id where
    it has to be."""
    process = start(model, [archive], run, "--address", "local", "--batch-size", "8", log=log)
    seen: dict[int, psutil.Process] = {}
    driver = psutil.Process(process.pid)
    try:
        yield driver
        assert process.wait(timeout=240) == code, log.read_text()
    finally:
        with suppress(psutil.NoSuchProcess):
            seen |= {child.pid: child for child in driver.children(recursive=True)}
        if process.poll() is None:
            process.kill()
        process.wait()
        session = [item for item in psutil.process_iter() if _session(item) == process.pid]
        for child in {*seen.values(), *session}:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs([*seen.values(), *session], timeout=10)


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def _staged(run: Path) -> int:
    """Files with rows that are done."""
    return len(list((run / "_work" / "staged-ray").glob("*.parquet"))) if run.exists() else 0


def _until(reached: Callable[[], bool], driver: psutil.Process, log: Path) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert driver.status() != psutil.STATUS_ZOMBIE, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _same(run: Path, undisturbed: Path) -> None:
    found, expected = rows(run), rows(undisturbed)
    assert found["row_id"].tolist() == expected["row_id"].tolist()
    floats = [name for name in found.columns if found[name].dtype == "float32"]
    assert found.drop(columns=floats).equals(expected.drop(columns=floats))
    np.testing.assert_allclose(found[floats], expected[floats], rtol=1e-4, atol=1e-4)
    assert state(run)["complete"] is True


def test_ray_and_one_process_give_the_same_rows(
    model: Path, archive: Path, undisturbed: Path, tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "ROWS_PER_FILE", 500)  # three files, each joined by a worker
    assert score(model, [archive], tmp_path / "run", "--local-rows", "0", "--batch-size", "8") == 0
    _same(tmp_path / "run", undisturbed)
    assert [len(pq.read_table(file)) for file in sorted((tmp_path / "run/scores").iterdir())] == [500, 500, 260]
    assert state(tmp_path / "run")["sessions"][0]["path"] == "ray"


def test_a_run_killed_again_and_again_loses_and_repeats_no_row_and_scores_none_again_that_is_staged(
    model: Path, archive: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, log, chance = tmp_path / "run", tmp_path / "log", random.Random(20)
    for more in (0, 1, 3):  # before a row is there, wherever it then stands; after the first rows; and after others
        with command(model, archive, run, log, code=-signal.SIGKILL) as driver:
            before = _staged(run)
            if more:
                _until(lambda before=before, more=more: _staged(run) >= before + more, driver, log)
            else:
                time.sleep(chance.uniform(2.0, 8.0))
            assert driver.status() != psutil.STATUS_ZOMBIE, f"over before it could be killed:\n{log.read_text()}"
            driver.send_signal(signal.SIGKILL)
        assert not (run / "scores").exists()
    assert state(run)["complete"] is False
    with command(model, archive, run, log):
        pass
    assert run.joinpath("summary.html").exists(), log.read_text()
    _same(run, undisturbed)
    assert 0 < state(run)["sessions"][-1]["images"] < state(run)["manifest"]["rows"]


def test_a_killed_worker_is_replaced_and_the_run_completes_by_itself(
    model: Path, archive: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    with command(model, archive, run, log) as driver:
        _until(lambda: _staged(run) >= 1, driver, log)
        workers = [child for child in driver.children(recursive=True) if "_ScoringActor" in " ".join(child.cmdline())]
        assert workers, "no scoring worker was found to kill"
        workers[0].kill()
    _same(run, undisturbed)


def test_retrying_on_ray_scores_what_failed(model: Path, phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    folder = Path(shutil.copytree(phantoms / "Testing" / "glioma", tmp_path / "images"))
    hidden = folder / "later.jpg"
    hidden.symlink_to(tmp_path / "not-mounted-yet.jpg")
    assert score(model, [folder], tmp_path / "run", "--local-rows", "0") == 0
    assert rows(tmp_path / "run")["status"].value_counts().to_dict() == {"ok": 5, "failed": 1}
    shutil.copy(next(path for path in folder.iterdir() if not path.is_symlink()), tmp_path / "not-mounted-yet.jpg")
    assert score(model, [folder], tmp_path / "run", "--local-rows", "0", "--retry-failed") == 0
    assert rows(tmp_path / "run")["status"].tolist() == ["ok"] * 6


@pytest.fixture
def two_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two stages of the GPU path, with the model on a CPU."""
    from btc_ray.workers.pool import Pool

    pool = Pool(cpus=2, gpus=1, gpus_each=0)
    monkeypatch.setattr(Pool, "of_cluster", classmethod(lambda cls, **named: pool))


def test_cpu_workers_that_feed_a_model_give_the_same_rows(
    model: Path, phantoms: Path, tmp_path: Path, ray_here: None, two_stages: None
) -> None:
    score(model, [phantoms / "Testing"], tmp_path / "one")
    assert (
        score(model, [phantoms / "Testing"], tmp_path / "two", "--local-rows", "0", "--device", "cpu", "--batch-size", "16") == 0
    )
    _same(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("breaks", ["once", "always"])
def test_a_gpu_that_fails_costs_its_worker_and_no_row(
    model: Path,
    phantoms: Path,
    tmp_path: Path,
    ray_here: None,
    two_stages: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    breaks: str,
) -> None:
    """A worker whose GPU has failed dies, so that Ray starts another; where that is no better, the run ends and can be continued."""
    import ray.cloudpickle

    from btc_ray.errors import DeviceError
    from btc_ray.model.engines.choose import open_engine
    from btc_ray.model.engines.engine import Engine
    from btc_ray.model.reference import Answers
    from btc_ray.scoring import distributed
    from btc_ray.workers import pool

    failures = tmp_path / "failures"

    def open_failing(settings: distributed.EngineSettings, **named: object) -> Engine:
        engine = open_engine(settings.model, settings.choice, threads=1)
        answers = engine.answers

        def failing(pixels: np.ndarray) -> Answers:
            if breaks == "always" or not failures.exists():
                failures.touch()
                raise DeviceError("the GPU failed: CUDA error: an illegal memory access was encountered")
            return answers(pixels)

        engine.answers = failing  # type: ignore[method-assign]
        return engine

    monkeypatch.setattr(distributed, "_open", open_failing)
    monkeypatch.setattr(pool, "GPU_RETRIES", 2)
    ray.cloudpickle.register_pickle_by_value(distributed)  # so that workers get what was set here
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    command = (model, [phantoms / "Testing"], tmp_path / "run", "--local-rows", "0", "--device", "cpu", "--batch-size", "16")
    try:
        code = score(*command)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(distributed)
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert failures.exists()
    if breaks == "always":
        assert code == 1
        told = capsys.readouterr().err
        assert "Running the same command again continues" in told
        assert "Traceback" not in told
        monkeypatch.undo()
        assert score(*command) == 0
    else:
        assert code == 0
    score(model, [phantoms / "Testing"], tmp_path / "one")
    _same(tmp_path / "run", tmp_path / "one")


def test_signed_web_addresses_are_read_by_workers_and_stand_in_no_file(model: Path, tmp_path: Path, ray_here: None) -> None:
    with signed_site(tmp_path / "site") as site:
        (tmp_path / "list.txt").write_text(f"{site}/b.jpg?sig=PLANTED1\n{site}/a.zip?sig=PLANTED2\n")
        assert score(model, [tmp_path / "list.txt"], tmp_path / "run", "--local-rows", "0") == 0
    assert state(tmp_path / "run")["sessions"][0]["path"] == "ray"
    assert rows(tmp_path / "run")["status"].tolist() == ["ok", "ok"]
    assert "PLANTED" not in everything(tmp_path / "run")
