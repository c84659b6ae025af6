"""What each file of a labelled data set is: format, mode, brightness, histogram, small whole frame. Once, by Ray Data, then cached.

Only jobs that use Ray load this module.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from btc_ray import storage
from btc_ray.archive.blocks import block_rows, write_blocks
from btc_ray.archive.reader import ByteReader
from btc_ray.dataset.stored import some
from btc_ray.dataset.table import fingerprint
from btc_ray.images.describe import BINS, FRAME, describe
from btc_ray.images.headers import ImageError
from btc_ray.progress import Progress, say
from btc_ray.storage.tables import write_table
from btc_ray.workers.pool import IO_ARGS, Pool, data_context

BATCH = 32
METHOD = 2  # raise it when `describe` gives other values
DONE = "done.json"  # stands in a finished folder of properties
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


@dataclass(frozen=True, kw_only=True)
class Properties:
    """PROPERTIES of every row of a labelled table, in its order: `table` without the frames, which stay on the disk, 4 KB each."""

    table: pa.Table
    folder: str
    storage_options: Mapping[str, str] = field(repr=False)

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """The small whole frames of these rows (rising positions), none of which is null: uint8 (n, FRAME, FRAME)."""
        row_ids = self.table["row_id"].to_numpy()[rows]
        return some(self.folder, "frame", row_ids, (FRAME, FRAME), storage_options=self.storage_options)

    def histograms(self, rows: np.ndarray) -> np.ndarray:
        """The histograms of these rows, none of which is null: float32 (n, BINS)."""
        return np.frombuffer(b"".join(self.table["histogram"].take(rows).to_pylist()), np.float32).reshape(-1, BINS)


def image_properties(table: pa.Table, *, cache: str, storage_options: Mapping[str, str]) -> Properties:
    """What every file of a labelled table is, from `cache` where it was found before. Needs a Ray that is joined."""
    folder = storage.join(cache, f"properties-{fingerprint(table)}-{METHOD}")
    found_uri, done_uri = storage.join(folder, "found"), storage.join(folder, DONE)
    if storage.exists(done_uri, storage_options):
        say(f"Properties are cached in {folder}.")
    else:
        storage.remove_tree(folder, storage_options)  # left by a job that was killed
        _describe_in_parallel(table, folder, found_uri, storage_options)
    filesystem, path = storage.arrow_filesystem(found_uri, storage_options)
    names = [name for name in PROPERTIES.names if name != "frame"]
    found = pq.read_table(path, filesystem=filesystem, columns=names).sort_by("row_id").combine_chunks()
    if not found["row_id"].equals(table["row_id"]):
        raise RuntimeError(f"{len(found):,} of {len(table):,} images were described. Delete {folder} and run again.")
    if not found["format"].null_count:  # what could not be read today may be readable tomorrow
        storage.write_bytes(done_uri, json.dumps({"images": len(table)}).encode(), storage_options)
    return Properties(table=found, folder=found_uri, storage_options=storage_options)


def _describe_in_parallel(table: pa.Table, folder: str, output: str, storage_options: Mapping[str, str]) -> None:
    """PROPERTIES of every row into `output`/*.parquet."""
    manifest, blocks = storage.join(folder, "manifest.parquet"), storage.join(folder, "blocks")
    write_table(manifest, table, storage_options)
    pool = Pool.of_cluster(use_gpus=False)
    rows_each = min(block_rows(len(table), batch=BATCH, workers=pool.cpus), ROWS_PER_BLOCK)
    count = write_blocks([manifest], blocks, rows_each=rows_each, storage_options=storage_options)
    filesystem, path = storage.arrow_filesystem(blocks, storage_options)
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
        for number, batch in enumerate(dataset.iter_batches(batch_size=None, batch_format="pyarrow")):
            found = batch.select(PROPERTIES.names).cast(PROPERTIES)
            write_table(storage.join(output, f"part-{number:05d}.parquet"), found, storage_options)
            progress.advance(len(batch), bad=batch["format"].null_count)
    for uri in (blocks, manifest):
        storage.remove_tree(uri, storage_options)


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
