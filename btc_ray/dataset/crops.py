"""Crops made in parallel by Ray Data, as Parquet: once for a labelled data set (cached under its fingerprint), or for any archive.

Only jobs that use Ray load this module.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.actor import ActorHandle

from btc_ray import storage
from btc_ray.archive.blocks import block_rows, write_blocks
from btc_ray.archive.reader import ByteReader
from btc_ray.dataset import table as labelled
from btc_ray.dataset.stored import mapped
from btc_ray.images.batch import OUTCOME, prepare_batch
from btc_ray.images.prepare import Preprocess
from btc_ray.progress import Progress, say
from btc_ray.storage.tables import write_table
from btc_ray.workers.blocks import batches, read_blocks
from btc_ray.workers.counting import Tally, new_counter, watched
from btc_ray.workers.pool import IO_ARGS, Pool, data_context

DONE = "done.json"  # stands in a finished folder of crops, with its counts
BATCH = 32
ROWS_PER_BLOCK = 512  # 25 MB of 224 × 224 crops


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A labelled data set's crops. Only images that are ok; `skipped` counts the others by status."""

    fingerprint: str
    folder: str  # the Parquet files of all images, `prepared_schema`
    rows: pa.Table  # row_id, uri, label, split, group, crop_status, doubt, content_sha256
    skipped: dict[str, int]
    size: int
    storage_options: Mapping[str, str] = field(repr=False)

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 (N, size, size), read-only, mapped into memory from the disk: 5 GB for 100,000 images at 224 × 224."""
        row_ids, shape = self.rows["row_id"].to_numpy(), (self.size, self.size)
        return mapped(self.folder, "pixels", row_ids, shape, storage_options=self.storage_options)


class _Cropper:
    def __init__(self, preprocess: Preprocess, storage_options: Mapping[str, str], counter: ActorHandle) -> None:
        cv2.setNumThreads(1)
        self._preprocess, self._reader, self._tally = preprocess, ByteReader(storage_options), Tally(counter)

    def __call__(self, block: pa.Table) -> pa.Table:
        cropped = pa.concat_tables([self._crop(batch) for batch in batches(block, BATCH)]).combine_chunks()
        self._tally.tell()
        return cropped

    def _crop(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        return self._tally.counted(prepare_batch(rows, self._reader.read_many(rows), self._preprocess))


def crop_in_parallel(manifest: str, output: str, *, preprocess: Preprocess, storage_options: Mapping[str, str]) -> None:
    """Crop the images of a Parquet folder of manifest rows into `output`/*.parquet (`prepared_schema`). Needs a Ray that is joined."""
    pool = Pool.of_cluster(use_gpus=False)
    parts = storage.list_files(manifest, ".parquet", storage_options)
    filesystem, _ = storage.arrow_filesystem(manifest, storage_options)
    paths = [storage.arrow_filesystem(uri, storage_options)[1] for uri in parts]
    rows = sum(pq.ParquetFile(path, filesystem=filesystem).metadata.num_rows for path in paths)
    blocks = f"{output.rstrip('/')}-blocks"
    rows_each = min(block_rows(rows, batch=BATCH, workers=pool.cpus), ROWS_PER_BLOCK)
    write_blocks(parts, blocks, rows_each=rows_each, storage_options=storage_options)
    out_filesystem, out_path = storage.arrow_filesystem(output, storage_options)
    counter = new_counter()
    with data_context(), Progress("Cropped", rows) as progress, watched(counter, progress):
        read_blocks(blocks, storage_options).map_batches(
            _Cropper,
            fn_constructor_kwargs={"preprocess": preprocess, "storage_options": dict(storage_options), "counter": counter},
            batch_size=None,
            batch_format="pyarrow",
            **pool.cpu_workers(),
        ).write_parquet(
            out_path,
            filesystem=out_filesystem,
            try_create_dir=True,
            concurrency=pool.io_tasks,
            ray_remote_args=IO_ARGS,
            compression="none",  # noise hardly gets smaller: a seventh, for 0.07 ms an image, of the 1.6 that it costs in all
        )
    storage.remove_tree(blocks, storage_options)


def labelled_crops(table: pa.Table, *, preprocess: Preprocess, cache: str, storage_options: Mapping[str, str]) -> Crops:
    """Crops of a labelled table, from `cache` where the same images were cropped the same way before. Needs a Ray that is joined."""
    fingerprint = f"{labelled.fingerprint(table)}-{preprocess.preprocess_id}"
    folder = storage.join(cache, f"crops-{fingerprint}")
    if storage.exists(storage.join(folder, DONE), storage_options):
        say(f"Crops are cached in {folder}.")
    else:
        say(f"Cropping {len(table):,} images …")
        storage.remove_tree(folder, storage_options)  # left by a job that was killed
        manifest = storage.join(folder, "manifest")
        write_table(storage.join(manifest, "part-00000.parquet"), table, storage_options)
        crop_in_parallel(manifest, storage.join(folder, "crops"), preprocess=preprocess, storage_options=storage_options)
    crops = _read(table, storage.join(folder, "crops"), preprocess.size, fingerprint, storage_options)
    if not crops.skipped.get("failed"):  # what could not be read today may be readable tomorrow
        done = json.dumps({"images": len(table), "preprocess": preprocess.to_dict()})
        storage.write_bytes(storage.join(folder, DONE), done.encode(), storage_options)
    return crops


def outcomes(crops: Crops) -> pa.Table:
    """What became of every image of a labelled table, in its order: `prepared_schema` without the pixels."""
    return _outcomes(crops.folder, crops.storage_options)


def _outcomes(folder: str, storage_options: Mapping[str, str]) -> pa.Table:
    filesystem, path = storage.arrow_filesystem(folder, storage_options)
    names = [column.name for column in OUTCOME] + ["doubt", "content_sha256"]
    return pq.read_table(path, filesystem=filesystem, columns=names).sort_by("row_id")


def _read(table: pa.Table, folder: str, size: int, fingerprint: str, storage_options: Mapping[str, str]) -> Crops:
    found = _outcomes(folder, storage_options)
    if len(found) != len(table) or not found["row_id"].equals(table["row_id"]):
        raise RuntimeError(f"{folder} has {len(found):,} crops of {len(table):,} images. Delete it and run again.")
    good = np.array(found["status"]) == "ok"
    rows: dict[str, Any] = {name: table[name].filter(pa.array(good)) for name in ("row_id", "uri", "label", "split", "group")}
    rows |= {name: found[name].filter(pa.array(good)) for name in ("crop_status", "doubt", "content_sha256")}
    bad = found.filter(pa.array(~good))
    skipped = {entry["values"]: entry["counts"] for entry in bad["status"].value_counts().to_pylist()}
    for row in bad.select(["uri", "error"]).slice(0, 10).to_pylist():
        say(f"left out: {row['uri']}: {row['error']}")
    return Crops(
        fingerprint=fingerprint, folder=folder, rows=pa.table(rows), skipped=skipped, size=size, storage_options=storage_options
    )
