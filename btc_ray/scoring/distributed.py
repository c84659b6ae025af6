"""Scoring on Ray Data: read the manifest, map the scorer over a pool of actors, write Parquet under Ray Data's checkpointing.

A killed driver continues from the checkpoint; a killed worker is replaced by Ray. Only the Ray path loads this module.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.data import Dataset
from ray.data.checkpoint import CheckpointConfig

from btc_ray.archive import storage
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle
from btc_ray.model.engine import Device, Precision, open_engine
from btc_ray.pool import IO_ARGS, Pool, data_context
from btc_ray.progress import Progress
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.local import default_batch_size
from btc_ray.scoring.scorer import Predictor, Preparer, Scorer


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an actor opens its model."""

    bundle: Bundle
    model: str
    device: Device
    precision: Precision
    storage_options: Mapping[str, str]


def score_on_ray(
    folder: RunFolder, manifest: str, *, engine: EngineSettings, pool: Pool, rows: int, batch_size: int | None, progress: Progress
) -> None:
    """Score every row of the Parquet folder `manifest` into `folder.staged_ray`, those already in its checkpoint left out."""
    batch = batch_size or default_batch_size("cuda" if pool.gpus else "cpu")
    filesystem, path = folder.arrow(manifest)
    counter = ray.remote(num_cpus=0, max_restarts=-1)(_Counter).remote()
    with data_context() as context, _watched(counter, progress):
        context.checkpoint_config = _checkpoint(folder)
        blocks = block_count(rows, batch=batch, workers=pool.gpus or pool.cpus)
        dataset = ray.data.read_parquet(path, filesystem=filesystem, **IO_ARGS)
        # A small manifest is one block whatever is asked of the reader; only repartition makes work for every worker.
        dataset = dataset.repartition(blocks)
        staged_filesystem, staged = folder.arrow(folder.staged_ray)
        _scored(dataset, engine, pool, batch, counter).write_parquet(
            staged, filesystem=staged_filesystem, try_create_dir=True, ray_remote_args=IO_ARGS
        )


def block_count(rows: int, *, batch: int, workers: int) -> int:
    """Blocks of whole batches: about eight a worker, so that the last ones end together, and at most 4,096 rows each.

    A block is also what a kill can cost and what one staged file holds.
    """
    per_block = min(max(math.ceil(rows / (8 * workers)), batch), 4096)
    return max(1, math.ceil(rows / (math.ceil(per_block / batch) * batch)))


def _scored(dataset: Dataset, engine: EngineSettings, pool: Pool, batch: int, counter: ActorHandle) -> Dataset:
    if not pool.gpus:  # one actor does it all and nothing travels
        return dataset.map_batches(
            _ScoringActor,
            fn_constructor_kwargs={"settings": engine, "counter": counter},
            batch_size=batch,
            batch_format="pyarrow",
            **pool.cpu_workers(),
        )
    return dataset.map_batches(  # CPUs read and crop, uint8 crops travel, GPUs normalise and predict
        _PreparingActor,
        fn_constructor_kwargs={"settings": engine},
        batch_size=batch,
        batch_format="pyarrow",
        **pool.cpu_workers(),
    ).map_batches(
        _PredictingActor,
        fn_constructor_kwargs={"settings": engine, "counter": counter},
        batch_size=batch,
        batch_format="pyarrow",
        **pool.gpu_workers(),
    )


class _ScoringActor:
    def __init__(self, settings: EngineSettings, counter: ActorHandle) -> None:
        self._scorer = Scorer(settings.bundle, _open(settings), settings.storage_options)
        self._counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _counted(self._scorer(batch), self._counter)


class _PreparingActor:
    def __init__(self, settings: EngineSettings) -> None:
        self._prepare = Preparer(Preprocess.from_dict(settings.bundle.preprocess), settings.storage_options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._prepare(batch)


class _PredictingActor:
    def __init__(self, settings: EngineSettings, counter: ActorHandle) -> None:
        self._predict = Predictor(settings.bundle, _open(settings))
        self._counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _counted(self._predict(batch), self._counter)


def _open(settings: EngineSettings) -> Any:
    return open_engine(
        settings.model, device=settings.device, precision=settings.precision, threads=1, storage_options=settings.storage_options
    )


def _counted(table: pa.Table, counter: ActorHandle) -> pa.Table:
    counter.add.remote(len(table), len(table) - table["status"].to_pylist().count("ok"))
    return table


class _Counter:
    """What the workers have done so far, for the driver's progress."""

    def __init__(self) -> None:
        self._images = self._bad = 0

    def add(self, images: int, bad: int) -> None:
        self._images += images
        self._bad += bad

    def read(self) -> tuple[int, int]:
        return self._images, self._bad


@contextmanager
def _watched(counter: ActorHandle, progress: Progress) -> Iterator[None]:
    """Bring the workers' count to the driver's progress once a second."""
    over = threading.Event()
    seen_images = seen_bad = 0

    def look() -> None:
        nonlocal seen_images, seen_bad
        try:
            images, bad = ray.get(counter.read.remote(), timeout=10)
        except ray.exceptions.RayError:  # the counter's node is busy or lost: progress is for people, the rows are safe
            return
        images = min(images, progress.total)  # a batch that a lost worker had counted is counted again
        progress.advance(max(images - seen_images, 0), max(bad - seen_bad, 0))
        seen_images, seen_bad = max(images, seen_images), max(bad, seen_bad)

    def watch() -> None:
        while not over.wait(1.0):
            look()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    look()


def _checkpoint(folder: RunFolder) -> CheckpointConfig:
    """Ray Data's own checkpointing, into the run folder, kept until the run is published."""
    filesystem, path = folder.arrow(folder.checkpoint)
    if storage.is_local(folder.uri):
        filesystem.create_dir(path, recursive=True)
    return CheckpointConfig(
        id_column="row_id", checkpoint_path=path, override_filesystem=filesystem, delete_checkpoint_on_success=False
    )
