"""A training too short for Ray Train, run in the driver's own process: a head, on features that are there.

Only jobs that use Ray load this module.
"""

from typing import Any

import numpy as np
import torch
from ray.train import ScalingConfig
from torch import Tensor

from btc_ray.training.journal import writing
from btc_ray.training.loop import train_epochs
from btc_ray.training.trainer import KEPT, Fitted, Task, choose_epoch, merit

FEW_SHOWN = 1_000_000  # images times epochs: seconds of one core, which Ray Train's five processes take to start


def is_short(task: Task, *, workers: int | None, scaling: ScalingConfig) -> bool:
    """Whether the training is over before a worker would have begun it: a head on a CPU, where no number of `workers` is asked for."""
    shown = len(task.examples["train"].labels) * task.recipe.epochs
    return task.recipe.train == "head" and workers is None and not scaling.use_gpu and shown <= FEW_SHOWN


def fit_here(task: Task) -> Fitted:
    """What `btc_ray.training.trainer.fit` comes to with one worker on a CPU; nothing is kept of a run that is killed."""
    learner = task.learner(torch.device("cpu"))
    history: list[dict[str, Any]] = []
    kept: dict[int, dict[str, Tensor]] = {}
    merits: dict[int, float] = {}
    with writing(**task.journal()) as write:
        for rows in train_epochs(learner, task.examples, history, classes=task.classes, seed=task.seed):
            epoch = rows[-1]["epoch"]
            merits[epoch] = merit(rows[-1])
            kept[epoch] = {key: value.detach().clone() for key, value in learner.model.state_dict().items()}
            best = sorted(merits, key=merits.__getitem__)[-KEPT:]
            kept = {number: kept[number] for number in kept if number in best or number == epoch}
            write(rows)
    chosen = choose_epoch(history, kept, independent=len(np.unique(task.examples["validation"].copies)))
    return Fitted(state=kept[chosen], epoch=chosen, history=history)
