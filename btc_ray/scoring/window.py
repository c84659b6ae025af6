"""One file of a run's scores: some rows of the manifest joined with what is staged of them, here or on a worker.

Nothing is raised for rows that have no result: the driver says so once for all files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.storage import Place
from btc_ray.storage.redact import public_uri

COUNTED = ("status", "label", "crop_status", "decision")  # columns whose values are counted


@dataclass(frozen=True, kw_only=True)
class Window:
    """What becomes one file.

    Attributes:
        manifest: parts of the manifest, each with its first row that counts and the first that does not any more (places in the part).
        sources: Parquet files that may hold results; where a row stands in several, the earlier one wins.
        schema: of `scores`.
        target: where the file is written.
    """

    manifest: Sequence[tuple[Place, int, int]]
    sources: Sequence[Place]
    schema: pa.Schema
    target: Place


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a window came to.

    Attributes:
        rows: of the manifest in it.
        counts: by the values of each column of COUNTED, None not counted; empty where the file was not written.
        missing: rows without a result, with the first one's row_id and URI as it is shown.
        other_names: whether the results are of other images than the manifest's.
    """

    rows: int
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    missing: int = 0
    first_missing: tuple[int, str] | None = None
    other_names: bool = False


def write_window(window: Window) -> Written:
    """Join, hold against the manifest, write; the file is there only where every row has its result."""
    listed = pa.concat_tables(_listed(*part) for part in window.manifest)
    wanted = np.asarray(listed["row_id"])
    table = _results(window.sources, window.schema, int(wanted[0]), int(wanted[-1]))
    found = np.asarray(table["row_id"])
    shown = _public(listed["uri"])
    if "shown_uri" in listed.column_names:
        shown = pc.coalesce(listed["shown_uri"], shown)
    if not np.array_equal(wanted, found):
        missing = np.setdiff1d(wanted, found)
        if not len(missing):
            return Written(rows=len(wanted), other_names=True)
        first = int(missing[0])
        return Written(
            rows=len(wanted), missing=len(missing), first_missing=(first, shown[int(np.searchsorted(wanted, first))].as_py())
        )
    if not shown.combine_chunks().equals(_public(table["uri"]).combine_chunks()):
        return Written(rows=len(wanted), other_names=True)
    table = table.set_column(table.schema.get_field_index("uri"), table.schema.field("uri"), shown)
    window.target.write_table(table.replace_schema_metadata(window.schema.metadata))
    return Written(rows=len(wanted), counts={name: _counted(table[name]) for name in COUNTED})


def opened(part: Place) -> pq.ParquetFile | None:
    """A Parquet file, to be closed; None where a process that was killed left it half-written."""
    filesystem, path = part.arrow()
    try:
        return pq.ParquetFile(path, filesystem=filesystem)  # read_table would import pyarrow.dataset: half a second
    except (pa.ArrowInvalid, OSError):
        return None


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist() if entry["values"] is not None}


def _listed(part: Place, start: int, stop: int) -> pa.Table:
    """Rows start..stop-1 of a part of the manifest: row_id and names."""
    filesystem, path = part.arrow()
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        # Manifests of before there were private runs have no other name for a row than its URI.
        columns = [name for name in ("row_id", "uri", "shown_uri") if name in file.schema_arrow.names]
        return file.read(columns=columns).slice(start, stop - start)


def _results(sources: Sequence[Place], schema: pa.Schema, first: int, last: int) -> pa.Table:
    """Rows first..last of `sources`, sorted by row_id, each once."""
    tables = []
    for part in sources:
        if (file := opened(part)) is None:
            continue
        with file:
            table = file.read(columns=schema.names)
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


def _public(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """`public_uri` of each; parts that an older version staged hold them as they were given."""
    if not pc.any(pc.match_substring_regex(uris, "://.*[@?]")).as_py():
        return uris
    return pa.chunked_array([[public_uri(uri) for uri in uris.to_pylist()]], pa.string())
