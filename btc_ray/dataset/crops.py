"""Crops made in parallel by Ray Data, as Parquet: once for a labelled data set (cached under its fingerprint), or for any archive. Those
of few labelled images are made in this process.

Only jobs that use Ray load this module.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.dataset import table as labelled
from btc_ray.dataset.stored import mapped
from btc_ray.images.batch import DESCRIPTION, OUTCOME
from btc_ray.images.prepare import Preprocess
from btc_ray.images.surround import surround
from btc_ray.progress import Progress, say
from btc_ray.storage import Options, Place
from btc_ray.storage.tables import row_count, to_bytes
from btc_ray.studies.keys import write_private
from btc_ray.studies.preparer import Preparer
from btc_ray.workers.blocks import batches
from btc_ray.workers.counting import ProgressChannel, ProgressReporter
from btc_ray.workers.pool import Pool
from btc_ray.workers.rows import map_to_parquet

DONE = "done.json"  # stands in a finished folder of crops, with its counts
BATCH = 32
LEAST_ROWS = 512  # of a worker: 1 s of a core, and its start takes 3
FEW_ROWS, FEW_BYTES = 1000, 64 << 20  # images, and bytes of their files: fewer are cropped before a worker has started
UNKNOWN = 64 << 10  # bytes of a file whose size nobody said
ROWS_PER_BLOCK = 512  # 25 MB of 224 × 224 crops


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A labelled data set's crops. Only images that are ok; `skipped` counts the others by status."""

    fingerprint: str  # of the table, and after a dash the preprocess_id
    folder: Place  # the Parquet files of all images, `prepared_schema`
    # row_id, uri, label, split, group, source, crop_status, doubt, content_sha256 (of a frame of several: `<sha256>#7`)
    rows: pa.Table
    skipped: dict[str, int]
    size: int

    @property
    def preprocess_id(self) -> str:
        """16 hex digits: with an image's content it tells its pixels."""
        return self.fingerprint.rpartition("-")[2]

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 (N, size, size), read-only, mapped into memory from the disk: 5 GB for 100,000 images at 224 × 224."""
        row_ids, shape = self.rows["row_id"].to_numpy(), (self.size, self.size)
        return mapped(self.folder, "pixels", row_ids, shape)

    def surround(self, positions: np.ndarray) -> np.ndarray:
        """float32 (len(positions),): `images.surround` of the crops at these positions; some at a time, for they need not fit into
        memory together."""
        parts = np.array_split(positions, 1 + len(positions) // 1024)
        return np.concatenate([surround(self.pixels[part]) for part in parts])


class _Cropper:
    def __init__(self, preprocess: Preprocess, options: Options, described: bool, counter: ProgressChannel) -> None:
        self._prepare = Preparer(preprocess, options, described=described)
        self._progress = ProgressReporter(counter)

    def __call__(self, block: pa.Table) -> pa.Table:
        cropped = [self._progress.counted(self._prepare(batch)) for batch in batches(block, BATCH)]
        self._progress.report()
        return pa.concat_tables(cropped).combine_chunks()


def crop_here(table: pa.Table, output: Place, *, preprocess: Preprocess, described: bool = False) -> None:
    """`crop_in_parallel` in this process, of a table of manifest rows."""
    prepare = Preparer(preprocess, output.options, described=described)
    with Progress("Cropped", len(table)) as progress:
        for number, block in enumerate(batches(table, ROWS_PER_BLOCK)):
            parts = []
            for batch in batches(block, BATCH):
                parts.append(prepare(batch))
                progress.advance(len(batch), len(batch) - parts[-1]["status"].to_pylist().count("ok"))
            (output / f"part-{number:05d}.parquet").write_table(pa.concat_tables(parts))


def crop_in_parallel(manifest: Place, output: Place, *, preprocess: Preprocess, described: bool = False) -> None:
    """Crop the images of a Parquet folder of manifest rows into `output`/*.parquet (`prepared_schema` and STUDY; with `described`
    DESCRIPTION in its place). Needs a Ray that is joined."""
    parts = manifest.files(".parquet")
    rows = sum(map(row_count, parts))
    pool = Pool.of_cluster(use_gpus=False).for_rows(rows, each=LEAST_ROWS)
    arguments = {"preprocess": preprocess, "options": manifest.options, "described": described}
    with Progress("Cropped", rows) as progress:
        map_to_parquet(
            parts,
            lambda dataset, counter: dataset.map_batches(
                _Cropper,
                fn_constructor_kwargs={**arguments, "counter": counter},
                batch_size=None,
                batch_format="pyarrow",
                **pool.cpu_workers(),
            ),
            output,
            blocks=manifest.beside(f"{output.name}-blocks"),  # it holds the manifest's rows
            pool=pool,
            progress=progress,
            rows=rows,
            batch=BATCH,
            rows_per_block=ROWS_PER_BLOCK,
            compression="none",  # noise hardly gets smaller: a seventh, for 0.07 ms an image, of the 1.6 that it costs in all
        )


def labelled_crops(table: pa.Table, *, preprocess: Preprocess, cache: Place, described: bool = False) -> Crops:
    """Crops of a labelled table, from `cache` where the same images were cropped the same way before. Needs a Ray that is joined.

    Every file is read and decoded once: what it is (DESCRIPTION) is written beside its crop. `described`: crops of a version that did
    not do so are made again.
    """
    fingerprint = f"{labelled.fingerprint(table)}-{preprocess.preprocess_id}"
    folder = cache / f"crops-{fingerprint}"
    if (folder / DONE).exists() and (not described or _are_described(folder / "crops")):
        say(f"Crops are cached in {folder}.")
    else:
        say(f"Cropping {len(table):,} images …")
        folder.remove()  # left by a job that was killed
        _crop_all(table, folder, preprocess)
    crops = _read(table, folder / "crops", preprocess.size, fingerprint)
    if not crops.skipped.get("failed"):  # what could not be read today may be readable tomorrow
        (folder / DONE).write(json.dumps({"images": len(table), "preprocess": preprocess.to_dict()}).encode())
    return crops


def _crop_all(table: pa.Table, folder: Place, preprocess: Preprocess) -> None:
    sizes = table["size"].fill_null(UNKNOWN).to_numpy()
    rows = labelled.to_read(table)
    if len(rows) <= FEW_ROWS and sizes.sum() <= FEW_BYTES:
        crop_here(rows, folder / "crops", preprocess=preprocess, described=True)
        return
    private = folder / "private"
    write_private(private / "README", b"What is read to make the crops. It is gone once they are made.\n")
    write_private(private / "manifest" / "part-00000.parquet", to_bytes(rows))
    crop_in_parallel(private / "manifest", folder / "crops", preprocess=preprocess, described=True)
    private.remove()


def _are_described(crops: Place) -> bool:
    filesystem, path = crops.files(".parquet")[0].arrow()
    return DESCRIPTION[0].name in pq.ParquetFile(path, filesystem=filesystem).schema_arrow.names


def outcomes(crops: Crops) -> pa.Table:
    """What became of every image of a labelled table, in its order: `prepared_schema` without the pixels."""
    return _outcomes(crops.folder)


def _outcomes(folder: Place) -> pa.Table:
    filesystem, path = folder.arrow()
    names = [column.name for column in OUTCOME] + ["doubt", "content_sha256"]
    return pq.read_table(path, filesystem=filesystem, columns=names).sort_by("row_id")


def _read(table: pa.Table, folder: Place, size: int, fingerprint: str) -> Crops:
    found = _outcomes(folder)
    if len(found) != len(table) or not found["row_id"].equals(table["row_id"]):
        raise RuntimeError(f"{folder} has {len(found):,} crops of {len(table):,} images. Delete it and run again.")
    good = np.array(found["status"]) == "ok"
    rows: dict[str, Any] = {
        name: table[name].filter(pa.array(good)) for name in ("row_id", "uri", "label", "split", "group", "source")
    }
    found = found.set_column(found.schema.get_field_index("content_sha256"), "content_sha256", _identities(table, found))
    rows |= {name: found[name].filter(pa.array(good)) for name in ("crop_status", "doubt", "content_sha256")}
    bad = found.filter(pa.array(~good))
    skipped = {entry["values"]: entry["counts"] for entry in bad["status"].value_counts().to_pylist()}
    for row in bad.select(["uri", "error"]).slice(0, 10).to_pylist():
        say(f"left out: {row['uri']}: {row['error']}")
    return Crops(fingerprint=fingerprint, folder=folder, rows=pa.table(rows), skipped=skipped, size=size)


def _identities(table: pa.Table, found: pa.Table) -> pa.Array:
    """What tells one image from others: the sha256 of its file, and in a file of several frames the frame's number with it. Frames of
    one file are no copies of each other, and may have different labels."""
    files = pc.coalesce(table["read_from"], table["uri"])
    several = pc.and_(table["frame"].is_valid(), pc.match_substring_regex(files, r"#(frame|slice)=\d+$"))
    numbered = pc.binary_join_element_wise(found["content_sha256"], pc.cast(table["frame"], pa.string()), "#")
    return pc.if_else(several, numbered, found["content_sha256"]).combine_chunks()
