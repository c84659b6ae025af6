"""Score, review, retrain, gate, score: what a reader says of the images of a scanner that the model has not seen makes the next one better
on them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.phantoms.phantom import write_phantoms
from tests.dataset.test_answers import write
from tests.integration.trainings import retrain
from tests.scoring.runs import rows, score

pytestmark = pytest.mark.ray

HEAD = ("--train", "head", "--size", "96", "--epochs", "60")  # enough for a difference that the gate cannot take for chance


def other_scanner(folder: Path, *, per_class: int, seed: int) -> Path:
    """Phantoms as a scanner shows them whose tissues are dark where those of the first are bright, in air that is dark for both."""
    for path in write_phantoms(folder, per_class=per_class, seed=seed, splits=("night",), size=(128, 128)):
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        head = pixels > 25
        turned = np.where(head, 60 + 0.75 * (255 - pixels.astype(float)), pixels).astype(np.uint8)
        assert cv2.imwrite(str(path), turned)
    return folder / "night"


def accuracy(run: Path) -> float:
    """Of a run over phantoms, whose folders are their classes."""
    table = rows(run)
    return float((table["label"] == table["uri"].str.split("/").str[-2]).mean())


def test_a_reader_s_answers_make_the_next_model_better_on_a_scanner_that_the_first_has_not_seen(
    imagenet_weights: Path, ray_here: None, tmp_path: Path
) -> None:
    data, first, second, run = (tmp_path / name for name in ("data", "first", "second", "run"))
    write_phantoms(data, per_class=30, seed=11, splits=("Training",), size=(128, 128))
    night, next_night = (other_scanner(tmp_path / f"night{seed}", per_class=60, seed=seed) for seed in (12, 13))
    assert retrain(data, first, *HEAD, weights=imagenet_weights) == 0
    assert score(first, [night], run) == 0
    assert main(["review", "--run", str(run), "--rows", "200", "--sample", "60"]) == 0

    # The reader knows the truth: the folder that a phantom stands in.
    names = ("row_id", "uri", "content_sha256", "label")
    read = [
        {name: row[name] for name in names} | {"answer": row["uri"].split("/")[-2], "reader": "RB"}
        for row in pq.read_table(run / "worklist.parquet").to_pylist()
    ]
    answers = write(tmp_path / "answers.csv", *read).uri
    assert main(["evaluate", "--run", str(run), "--answers", answers]) == 0
    found = json.loads((run / "answers.json").read_text())
    for estimate in ("sample", "weighted"):
        assert found[estimate]["accuracy"]["low"] <= accuracy(run) <= found[estimate]["accuracy"]["high"]

    flags = ("--answers", answers, "--champion", str(first))
    assert retrain(data, second, *HEAD, *flags, weights=imagenet_weights) == 0
    assert json.loads((second / "gate.json").read_text())["decision"] == "promote"
    assert json.loads((second / "bundle.json").read_text())["data"]["answers"]["added"] == len(read)
    for name, model in (("before", first), ("after", second)):
        assert score(model, [next_night], tmp_path / name) == 0
    assert accuracy(tmp_path / "after") > accuracy(tmp_path / "before") + 0.1
