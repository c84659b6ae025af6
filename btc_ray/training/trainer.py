"""One training run on Ray Train: examples and a network in, the best network and its history out.

A killed run continues at its last epoch when it is started again under the same name; a killed worker is replaced.
"""

import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from torch import Tensor, nn

from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.engines.torch_engine import choose_precision
from btc_ray.model.network import build_network
from btc_ray.settings.job import Precision
from btc_ray.settings.recipe import Recipe
from btc_ray.storage import Place
from btc_ray.training.journal import reading
from btc_ray.training.learner import Learner
from btc_ray.training.loop import Examples, pack, steps_per_epoch, train_epochs, unpack
from btc_ray.training.process_group import LocalTorchConfig
from btc_ray.workers.pool import PoolError, wait_for_room

CHECKPOINT = "state.pt"
TRIES = 3  # workers or nodes that may be lost in one run
KEPT = 2  # epochs that may become the model, beside the latest
SPARE = 0.1  # of a CPU for each worker: whole cores for all would leave none for Ray Train's own controller


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """`state`: the network of the best epoch; `epoch`: which that was; `history`: one row per epoch and split."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be learned: on `examples` train, with an epoch chosen on validation.

    Attributes:
        state: of the head where the recipe trains the head, of the whole ResNet18 otherwise.
        classes: how many.
        name: the same for, and only for, runs of the same data, weights and settings: Ray Train takes up what it finds under it.
        tensorboard: a folder for its files; mlflow: a tracking URI. None: neither.
    """

    recipe: Recipe
    examples: Mapping[str, Examples]
    state: Mapping[str, Tensor]
    classes: int
    seed: int
    name: str
    precision: Precision = "auto"
    tensorboard: str | None = None
    mlflow: str | None = None

    def learner(self, device: torch.device) -> Learner:
        """Network, optimizer and schedule at their beginning."""
        head = self.recipe.train == "head"
        network: nn.Module = nn.Linear(FEATURES, self.classes) if head else build_network(self.classes)
        network.load_state_dict(dict(self.state))
        bf16 = choose_precision(self.precision, device.type) == "bf16"
        recipe = self.recipe
        steps = steps_per_epoch(self.examples["train"], batch_size=recipe.batch_size, one_per_group=recipe.one_per_group)
        return Learner(network, recipe, steps=steps, device=device, bf16=bf16)

    def journal(self) -> dict[str, Any]:
        """What the journal of this training takes."""
        parameters = vars(self.recipe)
        return {
            "epochs": self.recipe.epochs,
            "folder": self.tensorboard,
            "mlflow": self.mlflow,
            "name": self.name,
            "parameters": parameters,
        }


def fit(task: Task, *, folder: Place, scaling: ScalingConfig) -> Fitted:
    """Train on Ray Train. Needs a Ray that is joined.

    Args:
        folder: where Ray Train keeps checkpoints; all nodes must see it.
        scaling: as `choose_scaling` gives it.
    """
    filesystem, path = folder.arrow()
    if folder.is_local:
        Path(path).mkdir(parents=True, exist_ok=True)
    # Ray Train looks for reports every 2 s, and a report waits for the look: an epoch of a head takes a tenth of that.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if not _has_dashboard():  # the driver's own Ray, on a machine that nobody takes away: no process that watches for it
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    with reading(**task.journal()) as journal:
        trainer = _Trainer(
            _train_loop,
            train_loop_config={
                "task": replace(task, examples={}),
                "examples": {which: ray.put(task.examples[which]) for which in ("train", "validation")},
                "threads": math.ceil(scaling.resources_per_worker["CPU"]),
                "journal": journal,
            },
            torch_config=LocalTorchConfig(),
            scaling_config=scaling,
            run_config=RunConfig(
                name=task.name,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=TRIES),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=KEPT, checkpoint_score_attribute="merit", checkpoint_score_order="max"
                ),
            ),
        )
        result = trainer.fit()
    if result.checkpoint is None:
        raise RuntimeError(f"training ended without a checkpoint: {result.error}")
    latest = _read_checkpoint(result.checkpoint)
    history = latest["history"]
    kept = {int(metrics["epoch"]): checkpoint for checkpoint, metrics in result.best_checkpoints or ()}
    kept[latest["epoch"]] = result.checkpoint
    chosen = choose_epoch(history, kept, independent=len(np.unique(task.examples["validation"].copies)))
    found = _read_checkpoint(kept[chosen])
    return Fitted(state=found["model"], epoch=found["epoch"], history=history)


class _Trainer(TorchTrainer):
    """Ray Train's own, less a helper that cannot work where Ray has no dashboard.

    The helper takes away the placement group of a controller that died, and asks the dashboard whether it lives: without one, its last
    question keeps the end of every training waiting for twelve seconds. A Ray without a dashboard is the driver's own, and goes with
    it. Should Ray name these things otherwise one day, the seconds come back and nothing else.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        if _has_dashboard():
            return callbacks
        return [callback for callback in callbacks if type(callback).__name__ != "PlacementGroupCleanerCallback"]


def _has_dashboard() -> bool:
    """Whether the Ray that is joined has one: a Ray that a driver starts for itself has none."""
    return bool(ray.init(ignore_reinit_error=True, logging_level="error").address_info["webui_url"])


def choose_epoch(history: Sequence[Mapping[str, Any]], kept: Collection[int], *, independent: int) -> int:
    """The latest of the `kept` epochs whose validation accuracy is within one standard error of the best one's.

    `independent` is the number of groups of copies in the validation set. Source: the one-standard-error rule of Breiman et al.,
    Classification and Regression Trees, 1984. Where validation images are few, the very best epoch is so by chance; among equals
    the latest has seen most and its rate has come down. Not the loss, which a few confident errors decide: what is wrong with
    confidences the temperature puts right.
    """
    accuracies = {int(row["epoch"]): float(row["accuracy"]) for row in history if row["split"] == "validation"}
    best = max(accuracies.values())
    error = math.sqrt(best * (1 - best) / max(independent, 1))
    return max(
        (epoch for epoch in kept if accuracies[epoch] >= best - error), default=max(kept, key=lambda epoch: accuracies[epoch])
    )


def merit(row: Mapping[str, Any]) -> float:
    """By which Ray Train keeps checkpoints, beside the latest: a row of the history on validation images, the later of equals."""
    return float(row["accuracy"]) + 1e-9 * int(row["epoch"])


def choose_scaling(workers: int | None) -> ScalingConfig:
    """One worker a GPU; without GPUs one worker with all cores of a node, or as many as asked for, sharing them. Raises PoolError."""
    wait_for_room({"CPU": 1})
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    widest, workers = max(nodes, default=0), workers or max(gpus, 1)
    if gpus:
        if workers > gpus:
            raise PoolError(f"--workers {workers} asks for more than the {gpus} GPUs of this Ray.")
        return ScalingConfig(num_workers=workers, use_gpu=True, resources_per_worker={"CPU": 1 - SPARE, "GPU": 1})
    each = widest
    while each >= 1 and sum(cpus // each for cpus in nodes) < workers:
        each -= 1
    if each < 1:
        raise PoolError(f"--workers {workers} asks for more than the {sum(nodes)} CPUs of this Ray; give at most {sum(nodes)}.")
    return ScalingConfig(num_workers=workers, resources_per_worker={"CPU": each - SPARE})


def _train_loop(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    task: Task = replace(config["task"], examples={name: ray.get(reference) for name, reference in config["examples"].items()})
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(config["threads"])
    else:  # the same seed gives the same weights on a GPU too
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    learner = task.learner(device)
    history: list[dict[str, Any]] = []
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        state = _read_checkpoint(checkpoint)
        learner.load(state["learner"])
        history = state["history"]
        if ray.train.get_context().get_world_rank() == 0:
            config["journal"].append(history)
    for rows in train_epochs(learner, task.examples, history, classes=task.classes, seed=task.seed):
        _report(learner, epoch=rows[-1]["epoch"], history=history, validation=rows[-1])
        if ray.train.get_context().get_world_rank() == 0:
            config["journal"].append(rows)


def _report(learner: Learner, *, epoch: int, history: list[dict[str, Any]], validation: Mapping[str, Any]) -> None:
    """Report is a barrier: every rank calls it, and only rank 0 brings the checkpoint, since all ranks hold the same."""
    metrics = {"epoch": epoch, "merit": merit(validation)}
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    state = {"epoch": epoch, "model": learner.model.state_dict(), "learner": learner.state(), "history": history}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CHECKPOINT).write_bytes(pack(state))
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))


def _read_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        return unpack((Path(folder) / CHECKPOINT).read_bytes())
