"""A new model takes the champion's place where it is better beyond chance, and the words, the file and the exit code agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btc_ray.commands.retrain import CHAMPION_STAYS, _gate
from btc_ray.model.bundle import read_bundle
from btc_ray.reports.shared.metrics import compare_models
from btc_ray.settings import Retrain
from btc_ray.storage import Place
from btc_ray.training.gate import decide
from btc_ray.training.retrain import Trained

IMAGES = 200
LABELS = np.arange(IMAGES) % 4


def seen(right: int, *, seed: int = 0) -> np.ndarray:
    """Probabilities of a model that is right on so many of the images, at random."""
    hit = np.isin(np.arange(IMAGES), np.random.default_rng(seed).permutation(IMAGES)[:right])
    return np.eye(4)[np.where(hit, LABELS, (LABELS + 1) % 4)] * 0.9 + 0.025


@pytest.mark.parametrize(
    ("champion", "challenger", "decision", "reason"),
    [(150, 190, "promote", "better"), (190, 150, "keep", "worse"), (180, 184, "keep", "chance"), (180, 180, "keep", "chance")],
)
def test_the_decision_follows_the_interval_and_mcnemars_test(champion: int, challenger: int, decision: str, reason: str) -> None:
    found = decide(compare_models(LABELS, seen(champion), seen(challenger, seed=1), np.arange(IMAGES)))
    assert found["decision"] == decision
    assert found["reason"].startswith(reason)


def test_many_images_of_one_patient_are_not_much_evidence() -> None:
    found = decide(compare_models(LABELS, seen(150), seen(190, seed=1), np.zeros(IMAGES, int)))
    assert found["decision"] == "keep"
    assert "too few held-out groups" in found["reason"]


@pytest.mark.parametrize(("right", "code"), [(190, 0), (150, CHAMPION_STAYS)])
def test_the_exit_code_and_the_file_say_what_was_decided(
    model: Path, tmp_path: Path, right: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    facts: dict[str, Any] = {"labels": LABELS, "groups": np.arange(IMAGES), "history": []}
    trained = Trained(bundle=read_bundle(Place(str(model))), probabilities=seen(right, seed=1), champion=seen(165), **facts)
    chosen = Retrain(data="-", output=str(tmp_path), champion="s3://key:secret@models/old")
    assert _gate(chosen, trained) == code
    gate = json.loads((tmp_path / "gate.json").read_text())
    assert gate["decision"] == ("keep" if code else "promote")
    assert gate["comparison"]["images"] == IMAGES
    assert "secret" not in (tmp_path / "gate.json").read_text()
    assert gate["reason"] in capsys.readouterr().out
