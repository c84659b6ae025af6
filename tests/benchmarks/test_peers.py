"""The peers that ours is measured beside do what they say: the same images and weights, a label for each."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inputs import images_below, write_model, write_phantoms
from benchmarks.peers_tables import Results, Timing, read_labels
from tests.scoring.runs import score

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("peers")
    assert len(write_phantoms(home / "images", 8, size=128)) == len(images_below(home / "images")) == 8
    return home / "images", write_model(home / "model", size=64)


def test_our_way_and_the_dataloader_label_every_image(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    images, model = inputs
    # A process of its own, as in the benchmark: its workers are forked, and a fork of this one would have all the threads that the
    # tests before have left.
    words = ("--images", images, "--model", model, "--output", tmp_path / "dataloader")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ways.dataloader", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert score(model, [images], tmp_path / "ours") == 0
    found = [read_labels(tmp_path / name) for name in ("dataloader", "ours")]
    assert found[0].keys() == found[1].keys() == {path.name for path in images.iterdir()}
    assert all(label in ("glioma", "meningioma", "notumor", "pituitary") for labels in found for label in labels.values())


def test_the_steady_rate_is_free_of_start_and_end() -> None:
    results = Results()
    for images, seconds in ((300, 40.0), (100, 20.0)):
        results.timings.append(Timing(way="a", images=images, seconds=seconds, processor=1.0))
    assert results.steady("a", 300) == [10.0]
    assert results.rates("a", 300) == [7.5]


def test_the_benchmarks_say_what_they_take() -> None:
    for module in ("benchmarks.peers", "benchmarks.limits", "benchmarks.gpu_node", "benchmarks.gpu_arithmetic"):
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
