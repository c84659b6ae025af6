"""The end of a run: staged parts are reconciled with the manifest, row by row, and written in order as files of sensible size.

Each file is a join of its own (see `window`), here one after the other or on workers at once. The driver reads footers only.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.archive.manifest import cut
from btc_ray.archive.parallel import Spread
from btc_ray.errors import BtcRayError
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.state import Counts
from btc_ray.scoring.window import COUNTED, Window, opened, write_window
from btc_ray.storage import Place
from btc_ray.storage.tables import row_count

ROWS_PER_FILE = 250_000  # about 25 to 50 MB: 100 to 200 bytes a row, most of it the incompressible sha256
_THREADS = 16  # an object store takes tens of milliseconds a file, however small


class IncompleteError(BtcRayError, RuntimeError):
    """Rows of the manifest have no result."""


def staged_ids(parts: Sequence[Place]) -> np.ndarray:
    """The row_ids that stand in staged parts: sorted int64, each once. Files a killed process left half-written do not count."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [ids for ids in pool.map(_row_ids, parts) if ids is not None]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def write_finished(
    folder: RunFolder, schema: pa.Schema, sources: Sequence[Place], *, generation: int, spread: Spread = map
) -> tuple[list[str], Counts]:
    """Write `finished/` from `sources` (Parquet files; where a row stands in several, the earlier source wins).

    Memory holds one file's worth of rows, on the workers where `spread` takes them there. Returns the names of the files and the
    counts. Raises IncompleteError, naming a row, where the manifest has rows that no source has.
    """
    folder.finished.remove()
    windows = list(_windows(folder, schema, sources, generation))
    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    rows = missing = 0
    first: tuple[int, str] | None = None
    for found in spread(write_window, windows):
        if found.other_names:
            raise IncompleteError("the staged results name other images than the manifest. Use another --output and report this.")
        rows, missing, first = rows + found.rows, missing + found.missing, first or found.first_missing
        for name, values in found.counts.items():
            counts[name].update(values)
    if first is not None:
        raise IncompleteError(
            f"{missing:,} of {rows:,} rows have no result, the first is row {first[0]} ({first[1]}). "
            "Run the same command again: it scores what is missing."
        )
    names = [window.target.name for window in windows]
    if not names:  # a night without anything new: readers find the columns
        names.append("part-00000.parquet")
        (folder.finished / names[0]).write_table(schema.empty_table())
    return names, Counts(rows=rows, **{name: dict(counter) for name, counter in counts.items()})


def _windows(folder: RunFolder, schema: pa.Schema, sources: Sequence[Place], generation: int) -> Iterator[Window]:
    """The manifest in pieces of ROWS_PER_FILE rows, in order, each with the sources that may hold its rows."""
    parts = folder.manifest.files(".parquet")
    with ThreadPoolExecutor(_THREADS) as pool:
        lengths = list(pool.map(row_count, parts))
        ranges = [(part, found) for part, found in zip(sources, pool.map(_row_range, sources), strict=True) if found is not None]
    for number, pieces in enumerate(cut(lengths, ROWS_PER_FILE)):
        start, stop = number * ROWS_PER_FILE, (number + 1) * ROWS_PER_FILE  # row_ids are 0 to rows - 1, in order
        name = f"part-{number:05d}.parquet" if generation == 0 else f"part-{number:05d}-retry{generation}.parquet"
        yield Window(
            manifest=[(parts[place], first, end) for place, first, end in pieces],
            sources=[part for part, (low, high) in ranges if low < stop and high >= start],
            schema=schema,
            target=folder.finished / name,
        )


def _row_range(part: Place) -> tuple[int, int] | None:
    """The least and the greatest row_id of a staged part, from its footer; None where there is none."""
    if (file := opened(part)) is None:
        return None
    with file:
        about = file.metadata
        if not about.num_rows:
            return None
        column = file.schema_arrow.get_field_index("row_id")
        found = [about.row_group(group).column(column).statistics for group in range(about.num_row_groups)]
        if all(one is not None and one.has_min_max for one in found):
            return min(one.min for one in found), max(one.max for one in found)
        bounds = pc.min_max(file.read(columns=["row_id"])["row_id"])
    return bounds["min"].as_py(), bounds["max"].as_py()


def _row_ids(part: Place) -> np.ndarray | None:
    if (file := opened(part)) is None:
        return None
    with file:
        return np.asarray(file.read(columns=["row_id"])["row_id"])
