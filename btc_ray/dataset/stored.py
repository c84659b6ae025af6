"""Pictures out of Parquet files, batch by batch: all of them as a file mapped into memory, or some as an array.

A hundred thousand crops are 5 GB: they stand on the disk, and of the memory they take what is free.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.storage import Place

_BATCH = 512  # rows: 25 MB of crops


def mapped(folder: Place, column: str, row_ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of every row of `row_ids` what stands in `column`: uint8 (N, *shape), read-only, mapped from a file that has no name and goes
    with the array.

    Args:
        folder: of Parquet files with `row_id` and `column`, the latter `math.prod(shape)` bytes long. The file is made beside it, or
            where temporary files are made, if it is not on this machine.
        row_ids: int64 (N,), rising, all of them in the folder.
    """
    if not len(row_ids):
        return np.zeros((0, *shape), np.uint8)
    beside = folder.path() if folder.is_local else None
    size = math.prod(shape)
    with tempfile.TemporaryFile(dir=beside) as file:
        # Written, not mapped for writing: a full disk is then an error and not a bus error.
        for places, pictures in _found(folder, column, row_ids):
            for place, picture in zip(places.tolist(), pictures, strict=True):
                file.seek(place * size)
                file.write(picture.as_py())
        file.flush()
        return np.asarray(np.memmap(file, np.uint8, "r", shape=(len(row_ids), *shape)))


def some(folder: Place, column: str, row_ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As `mapped`, in memory: for a few of many rows."""
    found = np.zeros((len(row_ids), *shape), np.uint8)
    for places, pictures in _found(folder, column, row_ids):
        for place, picture in zip(places.tolist(), pictures, strict=True):
            found[place] = np.frombuffer(picture.as_buffer(), np.uint8).reshape(shape)
    return found


def _found(folder: Place, column: str, row_ids: np.ndarray) -> Iterator[tuple[np.ndarray, Sequence[pa.Scalar]]]:
    """Batch by batch positions in `row_ids` and the values of these rows. Raises RuntimeError where rows are missing."""
    missing = len(row_ids)
    for part in folder.files(".parquet"):
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches(_BATCH, columns=["row_id", column]):
                wanted = np.isin(batch["row_id"].to_numpy(), row_ids)
                if wanted.any():
                    rows = batch.filter(pa.array(wanted))
                    missing -= len(rows)
                    yield np.searchsorted(row_ids, rows["row_id"].to_numpy()), rows[column]
    if missing:
        raise RuntimeError(f"{folder} lacks {missing:,} images that were there before. Delete it and run again.")
