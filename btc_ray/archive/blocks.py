"""What is left of a manifest, as one small Parquet file a block: what a worker takes at once, and what a kill can cost."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.storage import Place

MOST_ROWS = 4096
_WRITERS = 16  # an object store takes tens of milliseconds a file, however small


def write_blocks(
    manifest: Sequence[Place],
    destination: Place,
    *,
    rows_each: int,
    done: np.ndarray | None = None,
) -> int:
    """Write the rows of the `manifest` parts that are not in `done` (int64 row_ids) into the folder `destination`; how many files.

    Ray Data reads a small file as one block, so that no shuffle has to make blocks of the right size, and nothing of the manifest
    stands in the object store before a worker asks for it.
    """
    destination.remove()
    count = 0
    tables = enumerate(_in_blocks(_left(manifest, done), rows_each))

    def write(block: tuple[int, pa.Table]) -> None:
        (destination / f"{block[0]:08d}.parquet").write_table(block[1])

    with ThreadPoolExecutor(_WRITERS) as pool:
        while some := list(islice(tables, 4 * _WRITERS)):  # a bounded number of them in memory
            list(pool.map(write, some))
            count += len(some)
    return count


def block_rows(rows: int, *, batch: int, workers: int) -> int:
    """Rows of a block: whole batches, about eight blocks a worker, so that the last ones end together, and at most MOST_ROWS."""
    per_block = min(max(math.ceil(rows / (8 * workers)), batch), MOST_ROWS)
    return math.ceil(per_block / batch) * batch


def _left(manifest: Sequence[Place], done: np.ndarray | None) -> Iterator[pa.Table]:
    for part in manifest:
        filesystem, path = part.arrow()
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
