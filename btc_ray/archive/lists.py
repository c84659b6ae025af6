"""Lists of inputs: text (a URI per line), or a table with a column `uri` (`tables`), read as a stream.

Every entry becomes at least one row, whatever its extension: a folder its images, an archive its members,
`archive.zip::member` that member, and what does not exist a row that says so.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.containers import open_members
from btc_ray.archive.entries import ArchiveError, Entry, Skipped
from btc_ray.archive.readahead import Item, Later
from btc_ray.archive.tables import MissingColumnsError, Part, TableError, folder_of, placed, table_rows
from btc_ray.archive.walk import Scope, file_item, named_file
from btc_ray.storage.redact import redact
from btc_ray.storage.retries import explain

# Entries looked up together: an archive named by many lines in any order is opened once per chunk, not once per line.
_CHUNK = 5_000

_Line = tuple[str, str]  # where it stands ("line 7"), and the entry, empty where there is none


def list_items(uri: str, scope: Scope) -> Iterator[Item]:
    """The items of a list file. Raises ArchiveError where the list itself cannot be read."""
    return listed([(uri, {})], folder_of(uri), scope)


def listed(parts: Sequence[Part], folder: str, scope: Scope) -> Iterator[Item]:
    """The items of a list in one or more files; relative entries begin at `folder`. Raises ArchiveError."""
    for uri, given in parts:
        lines = _lines(uri, given, scope.options)
        while chunk := list(itertools.islice(lines, _CHUNK)):
            yield Later(partial(_chunk_items, uri, folder, chunk, scope))


def _lines(uri: str, given: Mapping[str, str | None], options: storage.Options) -> Iterator[_Line]:
    try:
        for where, row in table_rows(uri, options, needed=("uri",), given=tuple(given)):
            yield where, ((row | dict(given))["uri"] or "").strip()
    except MissingColumnsError as error:
        raise ArchiveError(f"the list {redact(uri)} {error}; rename the column of paths to 'uri'") from error
    except TableError as error:
        raise ArchiveError(f"the list {redact(uri)} {error}") from error


def _chunk_items(list_uri: str, folder: str, chunk: list[_Line], scope: Scope) -> list[Item]:
    """Items in the order of the list; runs in a thread."""
    items: list[Item | None] = []
    wanted: dict[str, list[tuple[int, str]]] = {}
    for where, entry in chunk:
        if not entry:
            items.append(Skipped(uri=f"{list_uri}, {where}", reason="an entry of a list is empty"))
            continue
        try:
            item_or_member = _entry_item(placed(folder, entry), scope)
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
        problem = explain(FileNotFoundError())
        if "\\" in uri:
            problem = problem.replace("no such file or folder", "no such file or folder, with backslashes or with slashes", 1)
        return Entry(uri=uri, problem_status="failed", problem=problem)
    if names.is_image(names.last_name(uri)) and not uri.endswith("/"):
        return Entry(uri=uri)  # its size is not asked for: a request for each line would take hours
    if names.archive_kind(names.last_name(uri)):
        return file_item(uri, None, scope)
    try:
        found = named_file(uri, scope)
    except Exception as error:  # noqa: BLE001 — each file system raises its own kinds; all become a row
        return Entry(uri=uri, problem_status="failed", problem=explain(error))
    return found or Entry(uri=uri, problem_status="failed", problem=explain(FileNotFoundError()))
