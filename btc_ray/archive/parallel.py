"""A folder listed on workers: each takes a piece of it and writes its rows; then they are numbered, and cut into the parts of a manifest.

The manifest is the one that `manifest.write_entries` writes of `listing.list_inputs`, byte for byte in its rows and their order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.archive.listing import THREADS
from btc_ray.archive.manifest import ROWS_PER_PART, SKIPPED_SCHEMA, Tally, cut, digest, write_entries, write_part
from btc_ray.archive.readahead import Item, LinkedFolderError, in_order
from btc_ray.storage import Place
from btc_ray.storage.tables import table_file

Spread: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""The results of a function for each of some items, in their order: `map`, or `workers.tasks.spread`."""


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """A piece of a listing, and the folder that its rows and `skipped.parquet` go to."""

    items: Sequence[Item]
    place: Place


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a manifest: of files with rows (file, first row, end), its number, and the folder of the manifest."""

    rows: Sequence[tuple[Place, int, int]]
    number: int
    rows_per_part: int
    folder: Place


def write_units(
    units: Sequence[Sequence[Item]],
    destination: Place,
    *,
    skipped: Place,
    work: Place,
    spread: Spread,
    rows_per_part: int = ROWS_PER_PART,
) -> Tally | None:
    """List the `units` of `listing.units_of`, and write what `write_entries` would; in between the rows stand in the folder `work`.

    None where a link to a folder was met, which has to be listed in one, or nothing at all: then nothing is written. Raises OSError.
    """
    work.remove()
    destination.remove()
    folders = [work / f"{number:06d}" for number in range(len(units))]
    tally, lengths, parts = Tally(), list[int](), list[Place]()
    for folder, found in zip(
        folders,
        spread(_list_unit, [_Unit(items=items, place=place) for items, place in zip(units, folders, strict=True)]),
        strict=True,
    ):
        if found is None:
            work.remove()
            return None
        tally.merge(found)
        lengths += [min(ROWS_PER_PART, found.rows - first) for first in range(0, found.rows, ROWS_PER_PART)]
        parts += [folder / "rows" / f"part-{number:05d}.parquet" for number in range(found.parts)]
    if not tally.rows:
        work.remove()
        return None
    wanted = [
        _Part(
            rows=[(parts[place], first, end) for place, first, end in piece],
            number=number,
            rows_per_part=rows_per_part,
            folder=destination,
        )
        for number, piece in enumerate(cut(lengths, rows_per_part))
    ]
    tally.digests = list(spread(_number_part, wanted))
    tally.parts = len(wanted)
    with table_file(skipped, SKIPPED_SCHEMA) as write:
        for folder in folders:
            table = (folder / "skipped.parquet").read_table()
            if len(table):
                write(table.to_pydict())
    work.remove()
    return tally


def _list_unit(unit: _Unit) -> Tally | None:
    try:
        found = in_order(unit.items, threads=THREADS, links=False)
        return write_entries(found, unit.place / "rows", skipped=unit.place / "skipped.parquet")  # type: ignore[arg-type]  # it has no EndOf
    except LinkedFolderError:
        return None


def _number_part(part: _Part) -> bytes:
    """Write one part; its digest."""
    tables = []
    for place, first, end in part.rows:
        filesystem, path = place.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            tables.append(file.read().slice(first, end - first))
    table = pa.concat_tables(tables)
    begin = part.number * part.rows_per_part
    table = table.set_column(0, table.schema.field(0), pa.array(range(begin, begin + len(table)), pa.int64()))
    write_part(part.folder, part.number, table)
    return digest(table)
