"""What is left of a manifest, as one small Parquet file a block: what a worker takes at once, and what a kill can cost."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import storage
from btc_ray.storage.tables import write_table

MOST_ROWS = 4096
_WRITERS = 16  # an object store takes tens of milliseconds a file, however small


def write_blocks(
    manifest: Sequence[str],
    destination: str,
    *,
    rows_each: int,
    done: np.ndarray | None = None,
    storage_options: storage.Options = None,
) -> int:
    """Write the rows of the `manifest` parts that are not in `done` (int64 row_ids) into the folder `destination`; how many files.

    Ray Data reads a small file as one block, so that no shuffle has to make blocks of the right size, and nothing of the manifest
    stands in the object store before a worker asks for it.
    """
    storage.remove_tree(destination, storage_options)
    count = 0
    tables = enumerate(_in_blocks(_left(manifest, done, storage_options), rows_each))

    def write(block: tuple[int, pa.Table]) -> None:
        write_table(storage.join(destination, f"{block[0]:08d}.parquet"), block[1], storage_options)

    with ThreadPoolExecutor(_WRITERS) as pool:
        while some := list(islice(tables, 4 * _WRITERS)):  # a bounded number of them in memory
            list(pool.map(write, some))
            count += len(some)
    return count


def block_rows(rows: int, *, batch: int, workers: int) -> int:
    """Rows of a block: whole batches, about eight blocks a worker, so that the last ones end together, and at most MOST_ROWS."""
    per_block = min(max(math.ceil(rows / (8 * workers)), batch), MOST_ROWS)
    return math.ceil(per_block / batch) * batch


def _left(manifest: Sequence[str], done: np.ndarray | None, storage_options: storage.Options) -> Iterator[pa.Table]:
    for uri in manifest:
        filesystem, path = storage.arrow_filesystem(uri, storage_options)
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches():
                table = pa.Table.from_batches([batch])
                if done is not None and len(done):
                    table = table.filter(pa.array(~np.isin(np.asarray(table["row_id"]), done)))
                if len(table):
                    yield table


def _in_blocks(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= rows:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, rows)
            waiting = [whole.slice(rows)]
    if rest := [table for table in waiting if len(table)]:
        yield pa.concat_tables(rest)
