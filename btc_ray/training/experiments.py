"""The grid on Ray Tune: every recipe with every seed, each run a head on features of the frozen backbone; what is done is kept.

Only jobs that use Ray load this module.
"""

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch
from ray import tune
from torch import Tensor, nn

from btc_ray.dataset.labelled import LabelledImages
from btc_ray.dataset.split import SPLITS
from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.weights import initial_network
from btc_ray.progress import LINE_EVERY_S, duration, say
from btc_ray.settings import Experiments
from btc_ray.settings.recipe import Recipe
from btc_ray.storage import Place
from btc_ray.training.features import backbone_id
from btc_ray.training.fit import examples, labelled_images
from btc_ray.training.grid import Experiment
from btc_ray.training.head import feature_statistics
from btc_ray.training.kept_features import frozen_features
from btc_ray.training.learner import Learner
from btc_ray.training.loop import Examples, answered_rightly, evaluate, patience_is_over, steps_per_epoch, train_epoch
from btc_ray.training.prepare import Prepared
from btc_ray.workers.pool import PoolError

METHOD = 2  # raise it when the same recipe comes to learn otherwise: runs kept from before then stay aside
CPUS_EACH = 0.9  # whole cores for all would leave none for what Ray runs beside them
TRIES = 3  # workers or nodes that a run may lose

RIGHT = "right"
RUN_SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32(), nullable=False),  # from 1
        pa.field("split", pa.string(), nullable=False),  # train, validation, test
        pa.field(
            "loss", pa.float64(), nullable=False
        ),  # mean cross-entropy, neither smoothed nor weighted; NaN where it diverged
        pa.field("accuracy", pa.float64(), nullable=False),
        pa.field("learning_rate", pa.float64(), nullable=False),  # at the epoch's first step
        pa.field(RIGHT, pa.list_(pa.bool_())),  # of the test images, in the run's epoch of least validation loss; null elsewhere
    ]
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a grid came to.

    `history`: a row per experiment, seed, epoch and split: `experiment`, `experiment_id`, `seed` and RUN_SCHEMA without `right`.
    `right`: experiment → float64 (T,), in which share of its seeds each test image was answered rightly, in the epoch that counts;
    without the experiments of which a run diverged. `groups` int64 (T,): the patient, or the copies, of each test image.
    `patients`: named groups among them. `counts`: images of each class in each split. `kept`: runs that were there from before;
    `seconds`: what the others took.
    """

    history: pa.Table
    right: dict[str, np.ndarray]
    groups: np.ndarray
    patients: int
    classes: tuple[str, ...]
    counts: dict[str, Any]
    fingerprint: str
    runs: int
    kept: int
    seconds: float


def run_grid(
    settings: Experiments,
    prepared: Prepared,
    grid: Sequence[Experiment],
    *,
    ray_session: Callable[[], AbstractContextManager[None]],
) -> Compared:
    """Run what of the grid has not been run before on the same images, split and initial weights.

    One split serves all runs, that of `--seed`; a run's own seed changes the head's initial weights, the order and the flips.
    Raises SplitError and PoolError for what only the images and the cluster can tell.
    """
    with ray_session():
        images = labelled_images(settings, prepared)
        state = dict(prepared.network.state_dict())
        flips = any(experiment.recipe.flips for experiment in grid)
        features = frozen_features(images.crops, state, flips=flips, cache=prepared.cache)[..., -FEATURES:]
        folder = prepared.cache / "experiments" / _name(images, state)
        wanted = {run_file(experiment, seed): (experiment, seed) for seed in range(settings.seeds) for experiment in grid}
        there = {file.name for file in folder.files(".parquet")}
        missing = {file: run for file, run in wanted.items() if file not in there}
        kept = len(wanted) - len(missing)
        say(
            f"{len(grid):,} experiments × {settings.seeds} seeds: {len(wanted):,} runs"
            + (f", {kept:,} of them kept from before" if kept else "")
            + "."
        )
        start = time.monotonic()
        if missing:
            seeds = sorted({seed for _, seed in missing.values()})
            _run_on_tune(
                missing,
                {split: examples(images, features, split) for split in SPLITS},
                {seed: _head(settings, images, seed) for seed in seeds},
                {
                    flips: _statistics(features, images, flips)
                    for flips in {experiment.recipe.flips for experiment, _ in missing.values()}
                },
                classes=len(images.classes),
                folder=folder,
            )
        seconds = time.monotonic() - start
    history = pa.concat_tables([_history(experiment, seed, folder / file) for file, (experiment, seed) in wanted.items()])
    test = images.rows("test")
    return Compared(
        history=history.drop_columns([RIGHT]).sort_by([(name, "ascending") for name in ("experiment", "seed", "epoch", "split")]),
        right=_right_by_experiment(history, seeds=settings.seeds),
        groups=images.groups[test],
        patients=len(set(images.crops.rows["group"].take(pa.array(test)).drop_null().to_pylist())),
        classes=images.classes,
        counts=images.counts(),
        fingerprint=images.crops.fingerprint,
        runs=len(wanted),
        kept=kept,
        seconds=seconds,
    )


def train_head(
    recipe: Recipe, data: Mapping[str, Examples], head: Mapping[str, Tensor], *, classes: int, seed: int
) -> list[dict[str, Any]]:
    """One run, in this process, on the CPU, in fp32: what `retrain --train head` learns from the same features, head and seed.

    Args:
        data: `train`, `validation` and whatever else is to be measured; inputs float32 (N, V, 512), one a flip.
        head: initial weight (classes, 512) and bias (classes,).

    Returns rows of RUN_SCHEMA, one per epoch and split; only one has `right`. Ends before the recipe's epochs where its patience does.
    """
    network = nn.Linear(FEATURES, classes)
    network.load_state_dict(dict(head))
    steps = steps_per_epoch(data["train"], batch_size=recipe.batch_size, one_per_group=recipe.one_per_group)
    learner = Learner(network, recipe, steps=steps, device=torch.device("cpu"))
    rows: list[dict[str, Any]] = []
    losses: list[float] = []
    least, counts, right = math.inf, 0, None
    for epoch in range(1, recipe.epochs + 1):
        rate = learner.optimizer.param_groups[0]["lr"]
        results = {"train": train_epoch(learner, data["train"], classes=classes, seed=seed, epoch=epoch)}
        results |= {split: evaluate(learner, data[split], classes=classes) for split in data if split != "train"}
        rows += [
            {"epoch": epoch, "split": split, "loss": found.loss, "accuracy": found.accuracy, "learning_rate": rate}
            for split, found in results.items()
        ]
        losses.append(results["validation"].loss)
        if losses[-1] < least:  # never where it is no number
            least, counts = losses[-1], epoch
            right = answered_rightly(learner, data["test"]).tolist() if "test" in data else None
        if patience_is_over(losses, recipe.patience):
            break
    for row in rows:
        if (row["epoch"], row["split"]) == (counts, "test"):
            row[RIGHT] = right
    return rows


def run_file(experiment: Experiment, seed: int) -> str:
    """The name under which a run is kept; it says all that the folder's name does not."""
    return f"{experiment.experiment_id}-{seed}.parquet"


def _run_on_tune(
    missing: Mapping[str, tuple[Experiment, int]],
    data: Mapping[str, Examples],
    heads: Mapping[int, Mapping[str, Tensor]],
    scales: Mapping[bool, tuple[np.ndarray, np.ndarray]],
    *,
    classes: int,
    folder: Place,
) -> None:
    """Run what is missing, side by side where there is room; every run is written to `folder` as soon as it is done.

    What is done is known by our own files. Tuner.restore would unpickle its state from a folder of the user's, which can run any
    code; it is written every 10 s at most, several runs' worth; and it knows one grid only, where a longer one shares its runs.
    """
    if ray.cluster_resources().get("CPU", 0) < CPUS_EACH:
        raise PoolError("this Ray offers no CPUs for work. Start a worker with --num-cpus 1 or more.")
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = (
        "1"  # CSV, JSON and TensorBoard files of every run, in a folder that goes away
    )
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer one prints tables to stdout with verbose=0 too
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # on Ctrl+C `fit` would return as if all were done
    runs = [{"file": file, "recipe": asdict(experiment.recipe), "seed": seed} for file, (experiment, seed) in missing.items()]
    with tempfile.TemporaryDirectory(prefix="btc-ray-tune-") as own:
        results = tune.Tuner(
            # The features are put into the object store once, here, and mapped into every worker.
            tune.with_resources(
                tune.with_parameters(_trial, data=dict(data), heads=dict(heads), scales=dict(scales), classes=classes),
                {"cpu": CPUS_EACH},
            ),
            param_space={"run": tune.grid_search(runs)},
            tune_config=tune.TuneConfig(
                reuse_actors=True,  # a new one would import torch again, 3 s for a run of 2
                trial_name_creator=lambda trial: trial.trial_id,  # not the whole recipe, which is too long for a path
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="experiments",
                storage_path=own,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=TRIES),
                callbacks=[_Keeper(len(runs), folder)],
            ),
        ).fit()
    if results.errors or results.num_terminated < len(runs):
        undone = len(runs) - results.num_terminated
        raise RuntimeError(
            f"{undone:,} of {len(runs):,} runs failed; running the same command again continues with them. "
            f"The first says: {results.errors[0] if results.errors else 'nothing'}"
        )


def _trial(
    config: dict[str, Any], *, data: dict[str, Examples], heads: dict[int, Any], scales: dict[bool, Any], classes: int
) -> None:
    """What Ray Tune runs: one recipe with one seed, reported whole at its end."""
    torch.set_num_threads(1)
    run = config["run"]
    recipe = Recipe(**run["recipe"])
    if recipe.standardise:
        mean, deviation = scales[recipe.flips]
        data = {split: replace(one, inputs=(one.inputs - mean) / deviation) for split, one in data.items()}
    rows = train_head(recipe, data, heads[run["seed"]], classes=classes, seed=run["seed"])
    tune.report({"file": run["file"], "rows": rows})


class _Keeper(tune.Callback):
    """Writes every run down as it comes in, from the driver, so that workers need not see `folder`; and says how it goes on."""

    def __init__(self, runs: int, folder: Place) -> None:
        self._runs, self._done, self._folder = runs, 0, folder
        self._started = self._said = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if "rows" not in result:
            return
        table = pa.Table.from_pylist(result["rows"], schema=RUN_SCHEMA)
        (self._folder / result["file"]).write_table(table)
        self._done += 1
        now = time.monotonic()
        if now - self._said >= LINE_EVERY_S or self._done == self._runs:
            self._said = now
            left = (now - self._started) / self._done * (self._runs - self._done)
            say(f"Experiments: {self._done:,} of {self._runs:,} runs" + (f", about {duration(left)} left" if left else ""))


def _head(settings: Experiments, images: LabelledImages, seed: int) -> dict[str, Tensor]:
    """The initial head of a seed, the one that `retrain --seed` would start from."""
    network = initial_network(settings.weights, len(images.classes), seed=seed, options=settings.storage())
    return dict(network.fc.state_dict())


def _statistics(features: np.ndarray, images: LabelledImages, flips: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the training features, as `retrain` would have them for a recipe with or without flips, so that a run does
    not depend on what else is in its grid."""
    return feature_statistics(features[images.rows("train")][:, : None if flips else 1])


def _name(images: LabelledImages, state: Mapping[str, Tensor]) -> str:
    """The name of the folder of runs: the same for the same images, sides and initial weights."""
    digest = hashlib.sha256(f"{METHOD} {images.crops.fingerprint} {backbone_id(state)}".encode())
    for part in (images.split, images.labels, images.copies):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _right_by_experiment(history: pa.Table, *, seeds: int) -> dict[str, np.ndarray]:
    """The mean over seeds of what a run has in RIGHT; without the experiments of which a run has none."""
    found: dict[str, list[list[bool]]] = {}
    rows = history.filter(pc.is_valid(history[RIGHT]))
    for name, right in zip(rows["experiment"].to_pylist(), rows[RIGHT].to_pylist(), strict=True):
        found.setdefault(name, []).append(right)
    return {name: np.mean(several, axis=0) for name, several in found.items() if len(several) == seeds}


def _history(experiment: Experiment, seed: int, file: Place) -> pa.Table:
    run = file.read_table()
    count = len(run)
    return (
        run.add_column(0, pa.field("experiment", pa.string(), nullable=False), pa.array([experiment.name] * count, pa.string()))
        .add_column(1, pa.field("experiment_id", pa.string(), nullable=False), pa.array([experiment.experiment_id] * count))
        .add_column(2, pa.field("seed", pa.int32(), nullable=False), pa.array([seed] * count, pa.int32()))
    )
