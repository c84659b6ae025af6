"""Retraining on Ray Train: labelled images → crops → features → head → model bundle.

A killed job continues at its last epoch when the command is run again: the Ray Train run is named after data and settings.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn

from btc_ray.archive import storage
from btc_ray.dataset.crops import Crops, labelled_crops
from btc_ray.dataset.split import SPLITS, assign_splits
from btc_ray.dataset.table import class_names, read_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, write_bundle
from btc_ray.model.network import FEATURES
from btc_ray.model.weights import initial_network
from btc_ray.pool import PoolError
from btc_ray.progress import say
from btc_ray.settings import Retrain
from btc_ray.training.features import backbone_id, frozen_features
from btc_ray.training.loop import CHECKPOINT, Examples, evaluate, make_optimizer, make_schedule, pack, train_epoch, unpack

WORKER_CPUS = 0.9  # a whole core each would leave none for Ray Train's own controller
TEST_SHARE = 0.2  # of each class, where the data names no test images


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run came to: the bundle, and one row per epoch and split (`epoch, split, loss, accuracy, learning_rate`)."""

    bundle: Bundle
    history: list[dict[str, Any]]
    confusion: np.ndarray  # int64 (classes, classes) of the test images: rows true, columns predicted


def retrain(settings: Retrain, *, ray_session: Callable[[], AbstractContextManager[None]]) -> Trained:
    """Train and write the bundle. Raises LabelledDataError, SplitError, WeightsError for unusable arguments."""
    options = settings.storage()
    cache = settings.cache or storage.join(storage.absolute(settings.output).rpartition("/")[0], ".btc-ray-cache")
    table = read_labelled(settings.data, options)
    classes = class_names(table)
    network = initial_network(settings.weights, len(classes), seed=settings.seed, storage_options=options)
    preprocess = Preprocess(crop=settings.crop, size=settings.size)
    with ray_session():
        crops = labelled_crops(table, preprocess=preprocess, cache=cache, storage_options=options)
        labels = np.searchsorted(classes, crops.rows["label"].to_pylist())
        split = assign_splits(
            crops.rows["label"].to_pylist(),
            crops.rows["split"].to_pylist(),
            crops.rows["group"].to_pylist(),
            validation=settings.validation,
            test=TEST_SHARE,
            seed=settings.seed,
        )
        features = frozen_features(crops, network.state_dict(), flips=settings.flips, cache=cache, storage_options=options)
        mean, deviation = moments(features[split == "train"]) if settings.standardise else (0.0, 1.0)
        features = (features - mean) / deviation
        examples = {name: Examples(features=features[split == name], labels=labels[split == name]) for name in SPLITS}
        name = run_name(settings, crops.fingerprint, backbone_id(network.state_dict()))
        say(f"Training on {len(examples['train'].labels):,} images, {settings.epochs} epochs …")
        best, history = _fit(settings, examples, network.fc.state_dict(), classes=len(classes), name=name, cache=cache)
    network.fc.load_state_dict(best["head"])
    results = {name: evaluate(network.fc, examples[name], classes=len(classes)) for name in SPLITS}
    fold_standardisation(network.fc, mean, deviation)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(history), sink)
    storage.write_bytes(storage.join(settings.output, "metrics.parquet"), sink.getvalue().to_pybytes(), options)
    bundle = write_bundle(
        settings.output,
        state=network.state_dict(),
        classes=classes,
        preprocess=preprocess,
        training={**_told(settings), "best_epoch": best["epoch"]},
        data=_data_facts(settings, crops, split, classes),
        metrics={
            name: {"images": int(result.confusion.sum()), "accuracy": result.accuracy, "loss": result.loss}
            for name, result in results.items()
        },
        storage_options=options,
    )
    return Trained(bundle=bundle, history=history, confusion=results["test"].confusion)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over images and flips: float32 (512,) each; a constant one has deviation 1."""
    mean, deviation = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    return mean, np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def fold_standardisation(head: nn.Linear, mean: np.ndarray | float, deviation: np.ndarray | float) -> None:
    """Make a head of standardised features one of plain features, in place: W (x − m) / d + b = (W / d) x + (b − (W / d) m)."""
    with torch.no_grad():
        head.weight.div_(torch.as_tensor(deviation, dtype=torch.float32))
        head.bias.sub_((head.weight * torch.as_tensor(mean, dtype=torch.float32)).sum(dim=1))


def run_name(settings: Retrain, data: str, weights: str) -> str:
    """The name of the Ray Train run: the same for the same data, initial weights and settings that change the result.

    Ray Train takes up whatever state it finds under a name, so the name has to say everything.
    """
    text = json.dumps([_told(settings), data, weights], sort_keys=True)
    return f"retrain-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _told(settings: Retrain) -> dict[str, Any]:
    """The settings that change what is learned."""
    silent = {"address", "cpus", "storage_options", "debug", "data", "output", "cache", "workers"}
    told = {name: value for name, value in asdict(settings).items() if name not in silent}
    return told | {"weights": storage.redact(settings.weights)}


def _data_facts(settings: Retrain, crops: Crops, split: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    labels = np.array(crops.rows["label"].to_pylist())
    counts = {name: {which: int(((split == name) & (labels == which)).sum()) for which in classes} for name in SPLITS}
    return {
        "source": settings.data.rstrip("/").rpartition("/")[2],
        "fingerprint": crops.fingerprint,
        "left_out": crops.skipped,
        **counts,
    }


def _fit(
    settings: Retrain, examples: Mapping[str, Examples], head: Mapping[str, torch.Tensor], *, classes: int, name: str, cache: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train on Ray Train; the checkpoint of the best validation loss and the history of all epochs."""
    cpus = ray.cluster_resources().get("CPU", 0)
    if settings.workers * WORKER_CPUS > cpus:
        raise PoolError(
            f"--workers {settings.workers} asks for more than the {cpus:.0f} CPUs of this Ray; give at most {int(cpus)}."
        )
    filesystem, path = storage.arrow_filesystem(storage.join(cache, "train"), settings.storage())
    if storage.is_local(cache):
        Path(path).mkdir(parents=True, exist_ok=True)
    # Ray Train looks for reports every 2 s, and a report waits for the look: an epoch of a head takes a tenth of that.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    trainer = TorchTrainer(
        _train_loop,
        train_loop_config={
            "settings": settings,
            "examples": {name: ray.put(examples[name]) for name in SPLITS},
            "head": dict(head),
            "classes": classes,
        },
        scaling_config=ScalingConfig(num_workers=settings.workers, resources_per_worker={"CPU": WORKER_CPUS}),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="validation_loss", checkpoint_score_order="min"
            ),
        ),
    )
    result = trainer.fit()
    checkpoint = result.get_best_checkpoint("validation_loss", "min")
    if checkpoint is None or result.checkpoint is None:
        raise RuntimeError(f"training ended without a checkpoint: {result.error}")
    return _read_checkpoint(checkpoint), _read_checkpoint(result.checkpoint)["history"]


def _train_loop(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    settings: Retrain = config["settings"]
    examples: dict[str, Examples] = {name: ray.get(reference) for name, reference in config["examples"].items()}
    head = nn.Linear(FEATURES, config["classes"])
    head.load_state_dict(config["head"])
    optimizer = make_optimizer(list(head.parameters()), settings)
    schedule = make_schedule(optimizer, settings)
    history: list[dict[str, Any]] = []
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        state = _read_checkpoint(checkpoint)
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history = state["history"]
    for epoch in range(len({row["epoch"] for row in history}) + 1, settings.epochs + 1):
        rate = optimizer.param_groups[0]["lr"]
        train_epoch(head, optimizer, examples["train"], settings, epoch=epoch)
        schedule.step()
        results = {name: evaluate(head, examples[name], classes=config["classes"]) for name in SPLITS}
        history += [
            {"epoch": epoch, "split": name, "loss": result.loss, "accuracy": result.accuracy, "learning_rate": rate}
            for name, result in results.items()
        ]
        metrics = {"epoch": epoch, **{f"{name}_loss": result.loss for name, result in results.items()}}
        state = {
            "epoch": epoch,
            "head": head.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "history": history,
        }
        _report(metrics, state)


def _report(metrics: dict[str, Any], state: Mapping[str, Any]) -> None:
    """Report is a barrier: every rank calls it, and only rank 0 brings the checkpoint, since all ranks hold the same."""
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CHECKPOINT).write_bytes(pack(state))
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))


def _read_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    with checkpoint.as_directory() as folder:
        return unpack((Path(folder) / CHECKPOINT).read_bytes())
