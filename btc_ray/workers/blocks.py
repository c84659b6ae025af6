"""The blocks of `archive.blocks` as Ray Data reads them: each by the worker that works on it, in the same task.

Only jobs that use Ray load this module.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from btc_ray.storage import Place
from btc_ray.storage.retries import expect_answers


def read_blocks(folder: Place) -> Dataset:
    """The Parquet files below `folder`, one block each, to be followed by `map_batches(batch_size=None, **pool.cpu_workers())`.

    Ray Data then runs reading and mapping as one task: it asks for what `cpu_workers` asks for, and the map takes whole blocks. So
    no process reads for others, and nothing of the manifest travels. `read_parquet` would first sample files in a task of its own
    (1.5 to 1.9 s), and a map with a batch size would be given several blocks at once, as many as the batch has rows.
    """
    files = folder.files(".parquet")
    return ray.data.read_datasource(Blocks(files), override_num_blocks=len(files), num_cpus=1)


def batches(block: pa.Table, size: int) -> Iterator[pa.Table]:
    """A block in slices of at most `size` rows."""
    for start in range(0, len(block), size):
        yield block.slice(start, size)


class Blocks(Datasource):
    def __init__(self, files: list[Place]) -> None:
        super().__init__()
        self._files = files

    def estimate_inmemory_data_size(self) -> int | None:
        return None  # so small that it is no reason to make more or fewer blocks of them

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_read, file), metadata) for file in self._files]


def _read(file: Place) -> Iterable[pa.Table]:
    expect_answers()  # the driver wrote it, so a store was there
    return [file.read_table()]
