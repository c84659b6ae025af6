"""The index of all files of an archive that may be DICOM or NIfTI, read once and in parallel; kept in parts, one that was cut off goes on.

Memory: the index.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from itertools import islice
from multiprocessing import get_context
from typing import Any

import pyarrow as pa

from btc_ray import storage
from btc_ray.progress import Progress, say
from btc_ray.storage import Place
from btc_ray.storage.tables import to_bytes
from btc_ray.studies.index import INDEX, compact, joined
from btc_ray.studies.indexing import index_files
from btc_ray.studies.keys import write_private

FILES_A_PART = 2000  # of the index: what a kill while indexing costs
_FILES_A_CALL = 100
_FEW_FILES = 500  # are looked into here: other processes take as long to start


def index_candidates(
    rows: Iterable[Mapping[str, Any]], count: int, *, cpus: int, options: storage.Options = None, kept: Place | None = None
) -> pa.Table:
    """The index (INDEX) of files, at least one row a file, in their order.

    Args:
        rows: manifest rows, whose `row_id` becomes `file_id`; `count` of them, at least one.
        kept: a private folder for the parts of the index; those of the same files are not made again. None: nothing is kept.
    """
    say(f"Looking into {count:,} files that may be DICOM or NIfTI …")
    tables: list[pa.Table] = []
    workers: Executor
    if count > _FEW_FILES and cpus > 1:
        workers = ProcessPoolExecutor(min(cpus, 16), mp_context=get_context("spawn"))
    else:
        workers = ThreadPoolExecutor(1)
    with workers, Progress("Indexing", count) as progress:
        for files in _batched(rows, FILES_A_PART):
            part = None if kept is None else kept / f"part-{files[0]['row_id']:012d}.parquet"
            mark = sha256("\0".join(f"{row['uri']}\0{row['size']}" for row in files).encode("utf-8", "replace")).hexdigest()
            table = None if part is None else _made_before(part, mark)
            if table is None:
                calls = _batched(files, _FILES_A_CALL)
                table = pa.concat_tables(workers.map(partial(index_files, options=dict(options or {})), calls))
                if part is not None:
                    write_private(part, to_bytes(table.replace_schema_metadata({"files": mark})))
            tables.append(compact(table))
            progress.advance(len(files))
    return joined(tables)


def _made_before(part: Place, mark: str) -> pa.Table | None:
    """The kept part, None where there is none, or one of other files or of a version with other columns."""
    try:
        table = part.read_table()
    except (OSError, pa.ArrowInvalid):
        return None
    if (table.schema.metadata or {}).get(b"files") != mark.encode() or table.schema.names != INDEX.names:
        return None
    return table.cast(INDEX)  # lists of a fixed length come back as lists


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch
