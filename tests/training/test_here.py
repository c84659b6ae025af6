"""A head is learned in this process where a worker would take longer to start; it comes to what the runs of a grid come to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ray.train import ScalingConfig
from torch import nn

from btc_ray.settings.recipe import RECIPES, Recipe
from btc_ray.training import here
from btc_ray.training.experiments import train_head
from btc_ray.training.here import FEW_SHOWN, fit_here, is_short
from btc_ray.training.loop import Examples
from btc_ray.training.trainer import KEPT, Task, choose_epoch

CLASSES, IMAGES, VIEWS, FEATURES = 3, 48, 4, 512
RECIPE = RECIPES["head"].changed(epochs=6, batch_size=8, learning_rate=0.01)
ON_CPU, ON_GPU = ScalingConfig(num_workers=1), ScalingConfig(num_workers=1, use_gpu=True)


@pytest.fixture(scope="module")
def sides() -> dict[str, Examples]:
    """Features (N, 4, 512) that tell the classes apart a little."""
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    inputs = random.normal(size=(IMAGES, VIEWS, FEATURES)).astype(np.float32)
    inputs[np.arange(IMAGES), :, labels] += 2
    whole = Examples(inputs=inputs, labels=labels, copies=np.arange(IMAGES))
    parts = {"train": slice(0, 32), "validation": slice(32, IMAGES)}
    return {
        name: replace(whole, inputs=inputs[part], labels=labels[part], copies=whole.copies[part]) for name, part in parts.items()
    }


def head() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(nn.Linear(FEATURES, CLASSES).state_dict())


def task(sides: dict[str, Examples], recipe: Recipe = RECIPE) -> Task:
    return Task(recipe=recipe, examples=sides, state=head(), classes=CLASSES, seed=3, name="name", precision="fp32")


def test_it_learns_what_a_run_of_a_grid_learns_and_keeps_an_epoch_that_may_be_chosen(sides: dict[str, Examples]) -> None:
    fitted = fit_here(task(sides))
    run = train_head(RECIPE, sides, head(), classes=CLASSES, seed=3)
    names = ("epoch", "split", "loss", "accuracy", "learning_rate")
    assert [{name: row[name] for name in names} for row in fitted.history] == run
    accuracies = {row["epoch"]: row["accuracy"] for row in run if row["split"] == "validation"}
    kept = {*sorted(accuracies, key=lambda epoch: (accuracies[epoch], epoch))[-KEPT:], RECIPE.epochs}
    assert fitted.epoch == choose_epoch(fitted.history, kept, independent=IMAGES - 32)


def test_the_weights_are_those_of_the_epoch_that_was_chosen(sides: dict[str, Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "choose_epoch", lambda history, kept, *, independent: min(kept))
    fitted = fit_here(task(sides))
    assert fitted.epoch < RECIPE.epochs
    network = nn.Linear(FEATURES, CLASSES)
    network.load_state_dict(fitted.state)
    held = sides["validation"]
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.ascontiguousarray(held.inputs[:, 0])))
    (row,) = [row for row in fitted.history if (row["epoch"], row["split"]) == (fitted.epoch, "validation")]
    assert float(nn.functional.cross_entropy(logits, torch.from_numpy(held.labels))) == pytest.approx(row["loss"], rel=1e-5)


def test_only_a_short_training_of_a_head_on_a_cpu_for_which_nobody_asked_for_workers_is_made_here(
    sides: dict[str, Examples],
) -> None:
    assert is_short(task(sides), workers=None, scaling=ON_CPU)
    assert not is_short(task(sides), workers=1, scaling=ON_CPU)
    assert not is_short(task(sides), workers=None, scaling=ON_GPU)
    assert not is_short(task(sides, RECIPES["all"]), workers=None, scaling=ON_CPU)
    assert not is_short(task(sides, RECIPE.changed(epochs=FEW_SHOWN // 32 + 1)), workers=None, scaling=ON_CPU)
