"""Inputs → a stream of rows and skips, in one order: as given, folders depth first and sorted by name, archives in their own
order.

The same input gives the same order on every listing and every file system. Memory is bounded (see `readahead`), except for the
set that finds files named twice: about 100 bytes a row, kept only where two inputs or a list could name one twice.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.containers import open_members
from btc_ray.archive.entries import SIZE_LIMIT, ArchiveError, Entry, NoImagesError, Skipped
from btc_ray.archive.globs import is_glob, split_glob
from btc_ray.archive.lists import list_items, listed
from btc_ray.archive.readahead import EndOf, Item, Later, Once, in_order
from btc_ray.archive.tables import folder_of, table_parts
from btc_ray.archive.walk import Scope, named_file, walk
from btc_ray.storage.redact import redact
from btc_ray.storage.retries import explain

THREADS = 16  # they wait for disks and networks, not for processors
LEVELS = 4  # of folders that are opened to find places to list apart
_PLAIN_ITEMS = 50_000  # of a unit


def list_inputs(
    inputs: Sequence[str],
    *,
    options: storage.Options = None,
    threads: int = THREADS,
    size_limit: int = SIZE_LIMIT,
    follow_links: bool = False,
    sniff: bool = False,
) -> Iterator[Entry | Skipped]:
    """Everything the inputs hold: folders, globs, files, lists (.txt, .csv, .parquet), archives, `archive.zip::member`.

    `sniff`: files that may be DICOM or NIfTI come out as entries of kind SNIFF, for a caller that looks into them.
    Links in a folder are followed within it, and with `follow_links` wherever they lead; what is named itself may be a link.

    Raises ArchiveError, before anything comes out, for an input that does not exist; when its turn comes, for a glob without a
    match or a damaged list; and at the end where there is no row at all.
    """
    if isinstance(inputs, str):
        raise TypeError("inputs is a sequence of URIs, not one string")
    if not inputs:
        raise ArchiveError("no input was given; name a folder, a file, a glob, a list or an archive")
    scope = Scope(options=options, size_limit=size_limit, follow_links=follow_links, sniff=sniff)
    uris = [_placed(uri) for uri in inputs]
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inputs") as pool:
        resolved = list(pool.map(lambda uri: _resolve(uri, scope), uris))
    return _unique_rows(uris, resolved, threads)


def units_of(
    uri: str,
    *,
    options: storage.Options = None,
    follow_links: bool = False,
    sniff: bool = False,
    threads: int = THREADS,
    places: int,
) -> list[list[Item]] | None:
    """One folder or glob in pieces that may be listed apart and, one after the other, are its listing; at least `places` folders and
    archives stand in them where it has so many within LEVELS levels.

    None: it has to be listed in one, because it is something else, has not even two places in it, or links to folders. Raises as
    `list_inputs` does.
    """
    if names.list_kind(names.last_name(uri)):
        return None
    root = _resolve(_placed(uri), Scope(options=options, follow_links=follow_links, sniff=sniff))
    items: list[Item] = [root]
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inputs") as pool:
        for _ in range(LEVELS):
            folders = [item for item in items if isinstance(item, Later) and item.folder]
            if not folders or sum(isinstance(item, Later) for item in items) >= places:
                break
            opened = iter(pool.map(lambda later: list(later.open()), folders))
            items = [inner for item in items for inner in (next(opened) if isinstance(item, Later) and item.folder else [item])]
    found = sum(isinstance(item, Later) for item in items)
    if found < 2 or any(isinstance(item, Once) for item in items):
        return None
    each = -(-found // places)
    units: list[list[Item]] = [[]]
    inside = 0
    for item in items:
        if (inside == each and isinstance(item, Later)) or len(units[-1]) >= _PLAIN_ITEMS:
            units.append([])
            inside = 0
        units[-1].append(item)
        inside += isinstance(item, Later)
    return units


def _placed(uri: str) -> str:
    """A trailing slash is kept on URIs, where it says "folder"; local paths say it themselves."""
    return storage.local_path(uri) if storage.is_local(uri) else uri


def _resolve(uri: str, scope: Scope) -> Item:
    """What an input is. A file whose very name is `a[1].jpg` or `x.zip::y` comes before the pattern or the member."""
    shown = redact(names.printable(uri)[0], scope.options)
    name = names.last_name(uri)
    try:
        found = named_file(uri, scope)
    except storage.StorageError:
        raise
    except Exception as error:
        raise ArchiveError(f"input {shown} cannot be opened: {redact(explain(error), scope.options)}") from error
    if isinstance(found, Entry) and found.problem is None and names.list_kind(name):
        return Later(lambda: list_items(uri, scope))
    if isinstance(found, Later) and (parts := table_parts(uri, scope.options)):
        return Later(lambda: listed(parts, folder_of(uri.rstrip("/")), scope))
    if found is not None:
        return found
    member = names.split_member(uri)
    if member:
        container, inner = member
        if named_file(container, scope) is not None:
            return Later(lambda: open_members(container, [inner], options=scope.options, size_limit=scope.size_limit))
    elif is_glob(uri):
        folder, pattern = split_glob(uri)
        if named_file(folder, scope) is None:
            raise ArchiveError(f"input {shown}: there is no folder {redact(folder)} to look for matches in; check the spelling")
        return Later(lambda: walk(folder, scope.within(folder), pattern=pattern, state=pattern.start()), folder=True)
    raise ArchiveError(
        f"input {shown} does not exist; check the spelling" + (", or that the disk is mounted" if storage.is_local(uri) else "")
    )


def _unique_rows(uris: list[str], resolved: list[Item], threads: int) -> Iterator[Entry | Skipped]:
    may_repeat = len(uris) > 1 or names.list_kind(names.last_name(uris[0])) is not None
    seen: set[bytes] = set()
    rows = of_this_input = 0
    reasons: Counter[str] = Counter()
    items = (item for number, found in enumerate(resolved) for item in (found, EndOf(number)))
    for item in in_order(items, threads=threads):
        if isinstance(item, EndOf):
            if not of_this_input:
                nothing = _nothing_in(uris[item.number])
                reasons[nothing.reason] += 1
                yield nothing
            of_this_input = 0
            continue
        of_this_input += 1
        if isinstance(item, Entry) and may_repeat:
            # The offset too: members of one name in one archive are rows of their own.
            key = hashlib.blake2b(f"{item.uri}\0{item.offset}".encode(), digest_size=16).digest()
            if key in seen:
                item = Skipped(uri=item.uri, reason="named twice")
            seen.add(key)
        if isinstance(item, Entry):
            rows += 1
        elif len(reasons) < 100 or item.reason in reasons:
            reasons[item.reason] += 1
        yield item
    if not rows:
        given = ", ".join(redact(names.printable(uri)[0]) for uri in uris[:3]) + (
            f" and {len(uris) - 3} more" if len(uris) > 3 else ""
        )
        found = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5)) or "nothing at all"
        raise NoImagesError(
            f"no image was found in {given} (found: {found}); give a folder, glob, list or archive that holds "
            f"{' '.join(sorted(names.IMAGE_EXTENSIONS))}",
            found,
        )


def _nothing_in(uri: str) -> Skipped:
    shown = names.printable(uri)[0]
    if is_glob(uri) and not _is_folder(uri):
        raise ArchiveError(f"input {redact(shown)} matches nothing; check the pattern and its upper and lower case")
    return Skipped(uri=shown, reason="an empty folder or list was given")


def _is_folder(uri: str) -> bool:
    return storage.is_local(uri) and storage.exists(uri)
