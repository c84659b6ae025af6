"""Lists of inputs: text (a URI per line), CSV or Parquet with a column `uri`, read as a stream.

Every entry becomes at least one row, whatever its extension: a folder its images, an archive its members,
`archive.zip::member` that member, and what does not exist a row that says so.
"""

import csv
import io
import itertools
import posixpath
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.containers import open_members
from btc_ray.archive.entries import ArchiveError, Entry, Skipped
from btc_ray.archive.ranges import open_stream
from btc_ray.archive.readahead import Item, Later
from btc_ray.archive.walk import Scope, file_item, named_file
from btc_ray.storage.redact import redact
from btc_ray.storage.retries import explain

# Entries looked up together: an archive named by many lines in any order is opened once per chunk, not once per line.
_CHUNK = 5_000

_Line = tuple[str, str]  # where it stands ("line 7"), and the entry, empty where there is none


def list_items(uri: str, scope: Scope) -> Iterator[Item]:
    """The items of a list file. Raises ArchiveError where the list itself cannot be read."""
    kind = names.list_kind(names.last_name(uri))
    read = {"text": _text_lines, "csv": _csv_lines, "parquet": _parquet_lines}[kind or ""]
    folder = _folder_of(uri)
    lines = _checked(uri, read(uri, scope.options))
    while chunk := list(itertools.islice(lines, _CHUNK)):
        yield Later(partial(_chunk_items, uri, folder, chunk, scope))


def _checked(uri: str, lines: Iterator[_Line]) -> Iterator[_Line]:
    try:
        yield from lines
    except storage.StorageError:
        raise
    except UnicodeDecodeError as error:
        raise ArchiveError(
            f"the list {redact(uri)} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except (pa.ArrowInvalid, csv.Error) as error:
        raise ArchiveError(f"the list {redact(uri)} is damaged: {redact(str(error))}") from error
    except Exception as error:
        raise ArchiveError(f"the list {redact(uri)} cannot be read: {explain(error)}") from error


def _text_lines(uri: str, options: storage.Options) -> Iterator[_Line]:
    with open_stream(uri, options) as raw, io.TextIOWrapper(raw, "utf-8-sig") as text:
        for number, line in enumerate(text, start=1):
            entry = line.strip()
            if entry and not entry.startswith("#"):
                yield f"line {number}", entry


def _csv_lines(uri: str, options: storage.Options) -> Iterator[_Line]:
    with open_stream(uri, options) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        table = csv.DictReader(text)
        _need_uri(uri, table.fieldnames or [])
        for record in table:
            yield f"line {table.line_num}", (record["uri"] or "").strip()


def _parquet_lines(uri: str, options: storage.Options) -> Iterator[_Line]:
    with open_stream(uri, options) as raw, pq.ParquetFile(raw) as table:
        _need_uri(uri, table.schema_arrow.names)
        number = 0
        for batch in table.iter_batches(columns=["uri"], batch_size=_CHUNK):
            for value in batch.column(0).to_pylist():
                yield f"row {number}", str(value).strip() if value is not None else ""
                number += 1


def _need_uri(uri: str, columns: object) -> None:
    found = [str(column) for column in columns]  # type: ignore[attr-defined]
    if "uri" not in found:
        raise ArchiveError(
            f"the list {redact(uri)} has no column 'uri' (it has: {', '.join(found) or 'none'}); "
            "rename the column of paths to 'uri'"
        )


def _folder_of(uri: str) -> str:
    if storage.scheme(uri) in ("http", "https"):
        uri = uri.partition("?")[0]
    return uri.rpartition("/")[0] or "/"


def _placed(folder: str, entry: str) -> str:
    """An entry as an absolute path or a URI; relative ones start at the list's folder."""
    if not storage.is_local(entry) or entry.startswith("/") or entry.lower().startswith("file:/"):
        return storage.absolute(entry)
    if storage.is_local(folder):
        return storage.absolute(f"{folder}/{entry}")
    head, _, path = folder.partition("://")
    return f"{head}://{posixpath.normpath(f'{path}/{entry}')}"


def _chunk_items(list_uri: str, folder: str, chunk: list[_Line], scope: Scope) -> list[Item]:
    """Items in the order of the list; runs in a thread."""
    items: list[Item | None] = []
    wanted: dict[str, list[tuple[int, str]]] = {}
    for where, entry in chunk:
        if not entry:
            items.append(Skipped(uri=f"{list_uri}, {where}", reason="an entry of a list is empty"))
            continue
        try:
            item_or_member = _entry_item(_placed(folder, entry), scope)
        except storage.StorageError as error:
            item_or_member = Entry(uri=entry, problem_status="failed", problem=redact(str(error), scope.options))
        if isinstance(item_or_member, tuple):
            container, member = item_or_member
            wanted.setdefault(container, []).append((len(items), member))
            items.append(None)
        else:
            items.append(item_or_member)
    for container, places in wanted.items():
        chosen = [member for _, member in places]
        rows = open_members(container, chosen, options=scope.options, size_limit=scope.size_limit)
        for (number, _), row in zip(places, rows, strict=True):
            items[number] = row
    return [item for item in items if item is not None]


def _entry_item(uri: str, scope: Scope) -> Item | tuple[str, str]:
    """What one entry is: an item, or `(archive, member)`. Asks the file system as little as it can: a list may be very long."""
    if storage.is_local(uri):
        found = named_file(uri, scope)
        if found is not None:
            return found
    member = names.split_member(uri)
    if member:
        return member
    if storage.is_local(uri):
        return Entry(uri=uri, problem_status="failed", problem=explain(FileNotFoundError()))
    if names.is_image(names.last_name(uri)) and not uri.endswith("/"):
        return Entry(uri=uri)  # its size is not asked for: a request for each line would take hours
    if names.archive_kind(names.last_name(uri)):
        return file_item(uri, None, scope)
    try:
        found = named_file(uri, scope)
    except Exception as error:  # noqa: BLE001 — each file system raises its own kinds; all become a row
        return Entry(uri=uri, problem_status="failed", problem=explain(error))
    return found or Entry(uri=uri, problem_status="failed", problem=explain(FileNotFoundError()))
