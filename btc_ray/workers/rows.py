"""Rows mapped over workers on Ray: the one driver for every job that reads rows and computes something for each.

Only jobs that use Ray load this module.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data.checkpoint import CheckpointConfig

from btc_ray.archive.blocks import block_rows, write_blocks
from btc_ray.progress import Progress
from btc_ray.storage import Place
from btc_ray.workers.blocks import read_blocks
from btc_ray.workers.counting import ProgressChannel, progress_channel, watched
from btc_ray.workers.pool import IO_ARGS, Pool, data_context

ROWS_PER_BLOCK = 4096


def map_to_parquet(
    parts: Sequence[Place],
    mapped: Callable[[Dataset, ProgressChannel], Dataset],
    output: Place,
    *,
    blocks: Place,
    pool: Pool,
    progress: Progress,
    rows: int,
    batch: int,
    rows_per_block: int = ROWS_PER_BLOCK,
    done: np.ndarray | None = None,
    checkpoint: CheckpointConfig | None = None,
    writers: int | None = None,
    **written: Any,
) -> None:
    """Map the rows of Parquet files over workers and write what comes out as Parquet, with progress. Needs a Ray that is joined.

    Args:
        parts: the files; rows with a `row_id`.
        mapped: the dataset of blocks, and what to count with (`counting.ProgressReporter`), to the dataset of results.
        output: folder of the results.
        blocks: a folder for what is left to do, as Ray Data reads it; it is removed at the end.
        rows: how many are left; batch: how many a worker takes at once, of which a block holds whole ones.
        done: int64, the row_ids that are left out.
        checkpoint: Ray Data's record of what it wrote.
        writers: writing tasks at once; written: further arguments of `Dataset.write_parquet`.
    """
    rows_each = min(block_rows(rows, batch=batch, workers=pool.cpus), rows_per_block)
    if not write_blocks(parts, blocks, rows_each=rows_each, done=done):
        return
    filesystem, path = output.arrow()
    with data_context() as context, progress_channel() as counter, watched(counter, progress):
        context.checkpoint_config = checkpoint
        mapped(read_blocks(blocks), counter).write_parquet(
            path,
            filesystem=filesystem,
            try_create_dir=True,
            concurrency=writers or pool.io_tasks,
            ray_remote_args=IO_ARGS,
            **written,
        )
    blocks.remove()


def map_to_driver(
    folder: Place, worker: type, *arguments: Any, columns: Sequence[str], pool: Pool, batch: int
) -> Iterator[pa.Table]:
    """Map the rows of a folder of Parquet files, a few hundred a file, over workers; what comes out arrives here, in no order.

    Args:
        worker: a class, made with `arguments` in each worker and called with tables of at most `batch` rows of `columns`; on GPUs
            where the pool has them.
    """
    filesystem, path = folder.arrow()
    with data_context():
        dataset = ray.data.read_parquet(
            path,
            filesystem=filesystem,
            columns=list(columns),
            override_num_blocks=len(folder.files(".parquet")),  # a block a file
            concurrency=pool.io_tasks,
            **IO_ARGS,
        ).map_batches(
            worker,
            fn_constructor_args=arguments,
            batch_size=batch,
            batch_format="pyarrow",
            **(pool.gpu_workers() if pool.gpus else pool.cpu_workers()),
        )
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
