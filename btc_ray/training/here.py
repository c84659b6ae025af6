"""A training too short for Ray Train, run in the driver's own process: a head, on features that are there.

Only jobs that use Ray load this module.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.train import ScalingConfig
from torch import Tensor, nn

from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.engines.torch_engine import choose_precision
from btc_ray.settings.job import Precision
from btc_ray.settings.recipe import Recipe
from btc_ray.training.journal import writing
from btc_ray.training.learner import Learner
from btc_ray.training.loop import Examples, steps_per_epoch, train_epochs
from btc_ray.training.trainer import KEPT, Fitted, choose_epoch, merit

FEW_SHOWN = 1_000_000  # images times epochs: seconds of one core, which Ray Train's five processes take to start


def is_short(recipe: Recipe, examples: Mapping[str, Examples], *, workers: int | None, scaling: ScalingConfig) -> bool:
    """Whether the training is over before a worker would have begun it: a head on a CPU, where no number of `workers` is asked for."""
    shown = len(examples["train"].labels) * recipe.epochs
    return recipe.train == "head" and workers is None and not scaling.use_gpu and shown <= FEW_SHOWN


def fit_here(
    recipe: Recipe,
    examples: Mapping[str, Examples],
    state: Mapping[str, Tensor],
    *,
    classes: int,
    seed: int,
    name: str,
    precision: Precision = "auto",
    tensorboard: str | None = None,
    mlflow: str | None = None,
) -> Fitted:
    """What `btc_ray.training.trainer.fit` comes to with one worker on a CPU; nothing is kept of a run that is killed.

    Args:
        examples: `train` and `validation`, inputs float32 (N, V, 512).
        state: of the head, weight (classes, 512) and bias (classes,).
        name: of MLflow's run.
    """
    head = nn.Linear(FEATURES, classes)
    head.load_state_dict(dict(state))
    bf16 = choose_precision(precision, "cpu") == "bf16"
    steps = steps_per_epoch(examples["train"], batch_size=recipe.batch_size, one_per_group=recipe.one_per_group)
    learner = Learner(head, recipe, steps=steps, device=torch.device("cpu"), bf16=bf16)
    history: list[dict[str, Any]] = []
    kept: dict[int, dict[str, Tensor]] = {}
    merits: dict[int, float] = {}
    with writing(epochs=recipe.epochs, folder=tensorboard, mlflow=mlflow, name=name, parameters=vars(recipe)) as write:
        for rows in train_epochs(learner, examples, history, classes=classes, seed=seed):
            epoch = rows[-1]["epoch"]
            merits[epoch] = merit(rows[-1])
            kept[epoch] = {key: value.detach().clone() for key, value in learner.model.state_dict().items()}
            best = sorted(merits, key=merits.__getitem__)[-KEPT:]
            kept = {number: kept[number] for number in kept if number in best or number == epoch}
            write(rows)
    chosen = choose_epoch(history, kept, independent=len(np.unique(examples["validation"].copies)))
    return Fitted(state=kept[chosen], epoch=chosen, history=history)
