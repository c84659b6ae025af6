"""What each file of a labelled data set is: format, mode, brightness, histogram, small whole frame. Once, by Ray Data, then cached.

Only jobs that use Ray load this module.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import pyarrow as pa
import ray

from btc_ray.archive import storage
from btc_ray.archive.blocks import block_rows, write_blocks
from btc_ray.archive.reader import ByteReader
from btc_ray.archive.tables import read_table, write_table
from btc_ray.dataset.table import fingerprint
from btc_ray.images.describe import BINS, FRAME, describe
from btc_ray.images.headers import ImageError
from btc_ray.pool import IO_ARGS, Pool, data_context
from btc_ray.progress import Progress, say

BATCH = 32
METHOD = 1  # raise it when `describe` gives other values
ROWS_PER_BLOCK = 1024  # 4 MB of frames

PROPERTIES = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("format", pa.string()),  # null, as all the others, where the file gives no picture
        pa.field("mode", pa.string()),
        pa.field("brightness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("histogram", pa.binary(4 * BINS)),  # float32
        pa.field("frame", pa.binary(FRAME * FRAME)),  # uint8
    ]
)


def image_properties(table: pa.Table, *, cache: str, storage_options: Mapping[str, str]) -> pa.Table:
    """PROPERTIES of every row of a labelled table, in its order; 4 KB an image. Needs a Ray that is joined."""
    name = storage.join(cache, f"properties-{fingerprint(table)}-{METHOD}")
    found_uri, manifest = f"{name}.parquet", storage.join(name, "part-00000.parquet")
    if storage.exists(found_uri, storage_options):
        say(f"Properties are cached in {found_uri}.")
        return read_table(found_uri, storage_options)
    write_table(manifest, table, storage_options)
    pool = Pool.of_cluster(use_gpus=False)
    blocks = storage.join(name, "blocks")
    rows_each = min(block_rows(len(table), batch=BATCH, workers=pool.cpus), ROWS_PER_BLOCK)
    count = write_blocks([manifest], blocks, rows_each=rows_each, storage_options=storage_options)
    filesystem, path = storage.arrow_filesystem(blocks, storage_options)
    parts = []
    with data_context(), Progress("Files described", len(table)) as progress:
        dataset = ray.data.read_parquet(
            path, filesystem=filesystem, override_num_blocks=count, concurrency=pool.io_tasks, **IO_ARGS
        ).map_batches(
            _Describer,
            fn_constructor_kwargs={"storage_options": dict(storage_options)},
            batch_size=BATCH,
            batch_format="pyarrow",
            **pool.cpu_workers(),
        )
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            parts.append(batch.select(PROPERTIES.names).cast(PROPERTIES))
            progress.advance(len(batch), bad=batch["format"].null_count)
    found = pa.concat_tables(parts).sort_by("row_id").combine_chunks()
    if not found["row_id"].equals(table["row_id"]):
        raise RuntimeError(f"{len(found):,} of {len(table):,} images were described. Run again.")
    if not found["format"].null_count:  # what could not be read today may be readable tomorrow
        write_table(found_uri, found, storage_options)
    storage.remove_tree(name, storage_options)
    return found


def frames_of(properties: pa.Table) -> np.ndarray:
    """The small whole frames of a table without nulls: uint8 (N, FRAME, FRAME)."""
    return np.frombuffer(b"".join(properties["frame"].to_pylist()), np.uint8).reshape(-1, FRAME, FRAME)


def histograms_of(properties: pa.Table) -> np.ndarray:
    """The histograms of a table without nulls: float32 (N, BINS)."""
    return np.frombuffer(b"".join(properties["histogram"].to_pylist()), np.float32).reshape(-1, BINS)


class _Describer:
    def __init__(self, storage_options: Mapping[str, str]) -> None:
        cv2.setNumThreads(1)
        self._reader = ByteReader(storage_options)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        contents = self._reader.read_many(rows)
        records = [{"row_id": row["row_id"], **_described(data)} for row, data in zip(rows, contents, strict=True)]
        return pa.Table.from_pylist(records, schema=PROPERTIES)


def _described(content: bytes | Exception) -> dict[str, object]:
    """Why a file gives no picture is told by its crop, which is made from the same bytes in the same way."""
    if isinstance(content, Exception):
        return {}
    try:
        found = describe(content)
    except (ImageError, MemoryError, cv2.error):
        return {}
    return {
        "format": found.format,
        "mode": found.mode,
        "brightness": found.brightness,
        "contrast": found.contrast,
        "histogram": found.histogram.tobytes(),
        "frame": found.frame.tobytes(),
    }
