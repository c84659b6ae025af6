"""Archives as items of a listing: zip or tar, opened by name; one that cannot be opened is a row that says why."""

from collections.abc import Iterable

from btc_ray import storage
from btc_ray.archive import names, tars, zips
from btc_ray.archive.entries import Entry, Skipped
from btc_ray.archive.members import Index, archive_items, chosen_entries
from btc_ray.archive.ranges import open_ranges, open_stream
from btc_ray.archive.sniff import READ, SNIFFED, kind_of_bytes
from btc_ray.archive.versions import version_at
from btc_ray.storage.retries import explain


def read_index(uri: str, *, size: int | None = None, options: storage.Options = None) -> Index:
    """The files in an archive. Never raises for a bad archive: `Index.broken` says what is wrong with it.

    One that is not what its name says is opened as what its first bytes say.
    """
    kind = names.archive_kind(names.last_name(uri))
    assert kind is not None, uri
    index = _read_as(uri, kind, size, options)
    if index.broken and not index.members and index.broken_status == "unreadable":
        is_kind = _kind_of_content(uri, options)
        if is_kind in READ and is_kind != kind:
            return _read_as(uri, is_kind, size, options)
        if is_kind is not None and is_kind not in READ:
            return Index(broken=f"it is {is_kind}", broken_status="unsupported")
    return index


def hidden_archive(path: str) -> str | None:
    """Why a file that a person named is no image: its bytes are those of an archive, though its name says nothing. Local files only."""
    if names.extension(names.last_name(path)) in names.WORKBOOKS:
        return "it is a workbook, which is not read; save the list in it as .csv"
    kind = _kind_of_content(path, None)
    if kind in ("zip", "tar"):
        return f"it is a {kind} archive whose name does not say so; name it .{kind}"
    return None


def _kind_of_content(uri: str, options: storage.Options) -> str | None:
    try:
        with open_stream(uri, options) as file:
            return kind_of_bytes(file.read(SNIFFED))
    except Exception:  # noqa: BLE001 — what is wrong with it was said already
        return None


def _read_as(uri: str, kind: str, size: int | None, options: storage.Options) -> Index:
    try:
        if kind == "zip":
            return zips.read_index(open_ranges(uri, options, size=size))
        return tars.read_index(uri, kind, options)
    except zips.BrokenZipError as error:
        return Index(broken=str(error))
    except Exception as error:  # noqa: BLE001 — each file system raises its own kinds; all become a row
        return Index(broken=f"the archive cannot be opened: {explain(error)}", broken_status="failed")


def open_archive(
    uri: str,
    size: int | None,
    *,
    options: storage.Options = None,
    size_limit: int,
    sniff: bool = False,
    version: str | None = None,
) -> Iterable[Entry | Skipped]:
    """All members of one archive; reading the index happens here, the records are made as they are asked for."""
    index = read_index(uri, size=size, options=options)
    return archive_items(uri, index, size=size, size_limit=size_limit, sniff=sniff, version=version)


def open_members(uri: str, chosen: list[str], *, options: storage.Options = None, size_limit: int) -> list[Entry]:
    """Rows for the members of one archive that a person named, in the order given."""
    version = version_at(uri, options)  # before the index: a change between the two is seen the next time
    index = read_index(uri, options=options)
    return list(chosen_entries(uri, index, chosen, size_limit=size_limit, version=version))
