"""Small tables as single Parquet files, wherever the URI points."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import storage


def read_table(uri: str, storage_options: Mapping[str, str] | None = None) -> pa.Table:
    """The table of one Parquet file. Raises FileNotFoundError, OSError."""
    return pq.read_table(pa.BufferReader(storage.read_bytes(uri, storage_options)))


def write_table(uri: str, table: pa.Table, storage_options: Mapping[str, str] | None = None) -> None:
    """Write one Parquet file, never seen half-written."""
    storage.write_bytes(uri, to_bytes(table), storage_options)


def to_bytes(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
