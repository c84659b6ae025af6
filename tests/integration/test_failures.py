"""What ends a run, says why in one line, and lets the same command go on; cluster/README.md has the table that these tests stand for."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scoring.runs import rows, score, state

PATHS = pytest.mark.parametrize("path", [(), ("--local-rows", "0")], ids=["in-process", "ray"])
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def archive(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images, whose scores take more than the 64 KiB of `small_disk`."""
    folder = tmp_path_factory.mktemp("archive")
    for copy in range(15):
        shutil.copytree(phantoms / "Testing", folder / str(copy))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=False).returncode:
        pytest.skip("needs root to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@PATHS
def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(
    model: Path, archive: Path, small_disk: Path, path: tuple[str, ...], ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_disk / "run"
    assert score(model, [archive], run, *path) == 1
    told = capsys.readouterr().err
    assert "No space left on device. Make room where --output is" in told.replace("\n", " ")
    assert "Traceback" not in told
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert score(model, [archive], run, *path) == 0
    assert rows(run)["row_id"].tolist() == list(range(300))
    assert state(run)["complete"] is True


@PATHS
def test_a_worker_that_cannot_load_the_model_ends_the_run_with_the_reason(
    model: Path, archive: Path, tmp_path: Path, path: tuple[str, ...], ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copytree(model, tmp_path / "model"))
    weights = damaged / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert score(damaged, [archive], tmp_path / "run", *path) == 2
    told = capsys.readouterr().err
    assert f"btc-ray: {weights} is damaged" in told
    assert "Traceback" not in told
    weights.write_bytes(whole)
    assert score(damaged, [archive], tmp_path / "run", *path) == 0
    assert len(rows(tmp_path / "run")) == 300
