"""Scoring on Ray Data: read what is left, map the scorer over a pool of actors, write Parquet under Ray Data's checkpointing.

A killed driver continues from the checkpoint; a lost worker or node is replaced by Ray. Only the Ray path loads this module.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_filter import CheckpointManager, IdColumnCheckpointManager

from btc_ray.errors import DeviceError
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice, Engine, EngineError
from btc_ray.progress import Progress, say
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.local import default_batch_size
from btc_ray.scoring.scorer import Predictor, Scorer
from btc_ray.storage import Place
from btc_ray.storage.retries import expect_answers
from btc_ray.studies.preparer import Preparer
from btc_ray.workers.blocks import batches
from btc_ray.workers.counting import ProgressChannel, ProgressReporter
from btc_ray.workers.pool import Pool, data_context
from btc_ray.workers.rows import map_to_parquet

CALLS_A_GPU = 2  # batches under way
BATCHES_A_CALL = 8  # only the first and the last have none beside them; 2,048 images of 224 px are 103 MB


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How an actor opens its model."""

    bundle: Bundle
    model: Place
    choice: Choice


def committed_ids(folder: RunFolder) -> np.ndarray:
    """The row_ids in Ray Data's checkpoint, sorted int64; what a killed driver left half-committed is removed. Needs a joined Ray."""
    if not folder.staged_ray.files(".parquet"):
        return np.empty(0, np.int64)  # a new run need not wait for a task that finds nothing
    with data_context() as context:
        loader = IdColumnCheckpointManager(checkpoint_config=_checkpoint(folder), data_context=context)
        filesystem, staged = folder.staged_ray.arrow()
        found, _ = loader.load_checkpoint(staged, filesystem)
        return np.empty(0, np.int64) if found is None else np.asarray(ray.get(found), np.int64)


def score_on_ray(
    folder: RunFolder,
    manifest: Sequence[Place],
    *,
    engine: EngineSettings,
    pool: Pool,
    rows: int,
    done: np.ndarray,
    batch_size: int | None,
    progress: Progress,
) -> None:
    """Score the `rows` rows of the `manifest` parts that are not in `done` (sorted int64 row_ids) into `folder.staged_ray`."""
    batch = batch_size or default_batch_size("cuda" if pool.gpus else "cpu")
    map_to_parquet(
        manifest,
        lambda dataset, counter: _scored(dataset, engine, pool, batch, counter),
        folder.staged_ray,
        blocks=folder.blocks,
        pool=pool,
        progress=progress,
        rows=rows,
        batch=batch,
        done=done,
        checkpoint=_checkpoint(folder),
        writers=pool.score_writers,
    )


def choose_on_worker(pool: Pool, **asked: Any) -> Choice:
    """What `auto` stands for where the model will run, which need not be the driver's machine. Raises EngineError."""
    if sum(node["Alive"] for node in ray.nodes()) == 1:
        return choose(**asked)
    on_worker = ray.remote(num_cpus=0 if pool.gpus else 1, num_gpus=pool.gpus_each if pool.gpus else 0)(choose)
    try:
        return ray.get(on_worker.remote(**asked))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EngineError):
            raise error.cause from None
        raise


def _scored(dataset: Dataset, engine: EngineSettings, pool: Pool, batch: int, counter: ProgressChannel) -> Dataset:
    if not pool.gpus:  # one actor does it all and nothing travels
        return dataset.map_batches(
            _ScoringActor,
            fn_constructor_kwargs={"settings": engine, "batch": batch, "counter": counter},
            batch_size=None,
            batch_format="pyarrow",
            **pool.cpu_workers(),
        )
    return dataset.map_batches(  # CPUs read and crop, uint8 crops travel, GPUs normalise and predict
        _PreparingActor,
        fn_constructor_kwargs={"settings": engine, "batch": batch},
        batch_size=None,
        batch_format="pyarrow",
        **pool.cpu_workers(),
    ).map_batches(
        _PredictingActor,
        fn_constructor_kwargs={"settings": engine, "batch": batch, "counter": counter},
        batch_size=batch * BATCHES_A_CALL,
        batch_format="pyarrow",
        **pool.gpu_workers(),
    )


class _ScoringActor:
    def __init__(self, settings: EngineSettings, batch: int, counter: ProgressChannel) -> None:
        self._scorer = Scorer(settings.bundle, _open(settings), settings.model.options)
        self._batch, self._progress = batch, ProgressReporter(counter)

    def __call__(self, block: pa.Table) -> pa.Table:
        scored = [self._progress.counted(self._scorer(batch)) for batch in batches(block, self._batch)]
        self._progress.report()
        return pa.concat_tables(scored).combine_chunks()  # a megabyte at most; every table on its own would cost Ray Data more


class _PreparingActor:
    def __init__(self, settings: EngineSettings, batch: int) -> None:
        self._prepare = Preparer(Preprocess.from_dict(settings.bundle.preprocess), settings.model.options)
        self._batch = batch

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        for batch in batches(block, self._batch):
            yield self._prepare(batch)


class _PredictingActor:
    """While the GPU computes one batch, the next is brought and the last one's rows are made.

    The threads are ours: Ray's own (`max_concurrent_calls_per_actor`) left a worker behind that did not end with its actor, but ran in a
    circle in its own signal handler and took 7 GB in a quarter of an hour.
    """

    def __init__(self, settings: EngineSettings, batch: int, counter: ProgressChannel) -> None:
        self._predict = Predictor(settings.bundle, _open(settings, calls=CALLS_A_GPU, batch=batch))
        self._batch, self._progress = batch, ProgressReporter(counter)
        self._threads = ThreadPoolExecutor(CALLS_A_GPU)

    def __call__(self, block: pa.Table) -> pa.Table:
        try:
            scored = list(self._threads.map(self._predict, batches(block, self._batch)))
        except DeviceError as error:  # Ray starts a new process where this one dies
            say(f"btc-ray: {error}")
            os._exit(1)
        table = self._progress.counted(pa.concat_tables(scored).combine_chunks())
        self._progress.report()
        return table


def _open(settings: EngineSettings, *, calls: int = 1, batch: int | None = None) -> Engine:
    expect_answers()  # the driver has read it: a store that is down now is waited for
    return open_engine(settings.model, settings.choice, bundle=settings.bundle, threads=1, calls=calls, batch=batch)


def _checkpoint(folder: RunFolder) -> CheckpointConfig:
    """Ray Data's own checkpointing, into the run folder, kept until the run is published."""
    filesystem, path = folder.checkpoint.arrow()
    if folder.place.is_local:
        filesystem.create_dir(path, recursive=True)
    return CheckpointConfig(
        id_column="row_id",
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
        checkpoint_manager_cls=_AlreadyFiltered,
    )


class _AlreadyFiltered(CheckpointManager):
    """Nothing to filter: blocks hold only what is left. Ray Data's own filter is an actor that asks for a whole CPU for as long as
    the job runs, and finds none where a pool has them all."""

    def load_checkpoint(self, data_file_dir: str | None = None, data_file_filesystem: Any = None) -> tuple[None, int]:
        return None, 0
