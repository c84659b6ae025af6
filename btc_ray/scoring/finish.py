"""The end of a run: staged parts are reconciled with the manifest, row by row, and written in order as files of sensible size."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.errors import BtcRayError
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.state import Counts
from btc_ray.storage import Place
from btc_ray.storage.redact import public_uri

COUNTED = ("status", "label", "crop_status", "decision")  # columns whose values are counted
ROWS_PER_FILE = 250_000  # about 25 to 50 MB: 100 to 200 bytes a row, most of it the incompressible sha256


class IncompleteError(BtcRayError, RuntimeError):
    """Rows of the manifest have no result."""


@dataclass(kw_only=True)
class _ValueCounts:
    """What a run comes to, while it is counted."""

    rows: int = 0
    columns: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTED})

    def add(self, table: pa.Table) -> None:
        self.rows += len(table)
        for name, counter in self.columns.items():
            for entry in pc.value_counts(table[name]).to_pylist():
                if entry["values"] is not None:
                    counter[entry["values"]] += entry["counts"]

    def to_record(self) -> Counts:
        return Counts(rows=self.rows, **{name: dict(counter) for name, counter in self.columns.items()})


def staged_ids(parts: Sequence[Place]) -> np.ndarray:
    """The row_ids that stand in staged parts: sorted int64, each once. Files a killed process left half-written do not count."""
    found = [np.asarray(table["row_id"]) for table in (_read(part, ["row_id"]) for part in parts) if table is not None]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def write_finished(
    folder: RunFolder, schema: pa.Schema, sources: Sequence[Place], *, generation: int
) -> tuple[list[str], Counts]:
    """Write `finished/` from `sources` (Parquet files; where a row stands in several, the earlier source wins).

    Memory holds one file's worth of rows. Returns the names of the files and the counts. Raises IncompleteError, naming rows,
    where the manifest has rows that no source has.
    """
    folder.finished.remove()
    ranges = _row_ranges(sources)
    names, counts = [], _ValueCounts()
    for number, manifest in enumerate(_manifest_windows(folder)):
        first, last = manifest["row_id"][0].as_py(), manifest["row_id"][-1].as_py()
        table = _rows_between([part for part, low, high in ranges if low <= last and high >= first], schema, first, last)
        table = _reconcile(manifest, table)
        name = f"part-{number:05d}.parquet" if generation == 0 else f"part-{number:05d}-retry{generation}.parquet"
        (folder.finished / name).write_table(table.replace_schema_metadata(schema.metadata))
        names.append(name)
        counts.add(table)
    if not names:  # a night without anything new: readers find the columns
        names.append("part-00000.parquet")
        (folder.finished / names[0]).write_table(schema.empty_table())
    return names, counts.to_record()


def _row_ranges(sources: Sequence[Place]) -> list[tuple[Place, int, int]]:
    ranges = []
    for part in sources:
        table = _read(part, ["row_id"])
        if table is not None and len(table):
            bounds = pc.min_max(table["row_id"])
            ranges.append((part, bounds["min"].as_py(), bounds["max"].as_py()))
    return ranges


def _manifest_windows(folder: RunFolder) -> Iterator[pa.Table]:
    """The manifest's row_id and uri, at most ROWS_PER_FILE rows at a time, in order."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for part in folder.manifest.files(".parquet"):
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=_shown_columns(file), batch_size=50_000):
                waiting.append(batch)
                rows += len(batch)
                if rows >= ROWS_PER_FILE:
                    yield pa.Table.from_batches(waiting)
                    waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _shown_columns(file: pq.ParquetFile) -> list[str]:
    """Manifests of before there were private runs have no other name for a row than its URI."""
    return [name for name in ("row_id", "uri", "shown_uri") if name in file.schema_arrow.names]


def _rows_between(sources: Sequence[Place], schema: pa.Schema, first: int, last: int) -> pa.Table:
    """Rows first..last of `sources`, sorted by row_id, each once."""
    tables = []
    for part in sources:
        table = _read(part, schema.names)
        if table is not None:
            between = pc.and_(pc.greater_equal(table["row_id"], first), pc.less_equal(table["row_id"], last))
            tables.append(_with_later_columns(table.filter(between), schema).cast(schema.remove_metadata()))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    _, where = np.unique(np.asarray(table["row_id"]), return_index=True)  # the first occurrence of each
    return table.take(where).combine_chunks()


def _with_later_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Parts of a version that did not have the last columns yet, with nulls for them."""
    for column in schema:
        if column.nullable and column.name not in table.column_names:
            table = table.append_column(column.name, pa.nulls(len(table), column.type))
    return table.select(schema.names)


def _reconcile(manifest: pa.Table, table: pa.Table) -> pa.Table:
    """The rows, held against the manifest, with the URIs that it shows."""
    wanted, found = np.asarray(manifest["row_id"]), np.asarray(table["row_id"])
    shown = _public(manifest["uri"])
    if "shown_uri" in manifest.column_names:
        shown = pc.coalesce(manifest["shown_uri"], shown)
    if len(wanted) != len(found) or not np.array_equal(wanted, found):
        missing = np.setdiff1d(wanted, found)
        example = shown[int(np.searchsorted(wanted, missing[0]))].as_py() if len(missing) else "?"
        raise IncompleteError(
            f"{len(missing):,} of {len(wanted):,} rows have no result, the first is row {missing[0] if len(missing) else '?'} ({example}). "
            "Run the same command again: it scores what is missing."
        )
    if not shown.combine_chunks().equals(_public(table["uri"]).combine_chunks()):
        raise IncompleteError("the staged results name other images than the manifest. Use another --output and report this.")
    return table.set_column(table.schema.get_field_index("uri"), table.schema.field("uri"), shown)


def _public(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """`public_uri` of each; parts that an older version staged hold them as they were given."""
    if not pc.any(pc.match_substring_regex(uris, "://.*[@?]")).as_py():
        return uris
    return pa.chunked_array([[public_uri(uri) for uri in uris.to_pylist()]], pa.string())


def _read(part: Place, columns: list[str]) -> pa.Table | None:
    filesystem, path = part.arrow()
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:  # read_table would import pyarrow.dataset: half a second
            return file.read(columns=columns)
    except (pa.ArrowInvalid, OSError):  # half-written by a process that was killed
        return None
