"""Folders, one level at a time: what is in a folder of this machine or of an object store, as sorted items.

Names are sorted by code points, a file before a folder of the same name, so that every file system gives one order.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.containers import hidden_archive, open_archive
from btc_ray.archive.entries import SIZE_LIMIT, SNIFF, Entry, Skipped
from btc_ray.archive.globs import Pattern
from btc_ray.archive.readahead import Item, Later, Once
from btc_ray.archive.versions import local_version, remote_version
from btc_ray.storage.retries import explain, retrying

Identity = tuple[int, int]  # device and inode of a local folder

_BROKEN_LINK = "broken link: what it points to is gone"
_ANNEX = "its content is not here: `git annex get` (or `datalad get`) brings it"
_LOOP = "symlink loop"
_LEADS_OUT = "a link that leads out of the input folder is not followed (to follow such links: --follow-links)"
_NOT_UTF8 = "the file name is not valid UTF-8; rename the file or its folder"
_NAMELESS = "keys with an empty folder name (//) cannot be listed; rename them"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What stays the same during one listing. `root` is the folder that a person named, links resolved: what links may lead to
    where they are not followed everywhere."""

    options: storage.Options = None
    size_limit: int = SIZE_LIMIT
    follow_links: bool = False
    sniff: bool = False  # files that may be DICOM or NIfTI are entries of kind SNIFF
    root: str | None = None

    def within(self, folder: str) -> "Scope":
        """The same below a local folder that a person named."""
        return replace(self, root=os.path.realpath(folder)) if storage.is_local(folder) else self

    def bars(self, link: str) -> bool:
        """Whether a local link is not followed, because it leads out of the folder that was named."""
        if self.follow_links or self.root is None:
            return False
        return not f"{os.path.realpath(link)}/".startswith(f"{self.root.rstrip('/')}/")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Child:
    """`other` is neither a file nor a folder; `barred` a folder that is not entered, which is counted; `lost` what cannot be asked
    about or listed, which is a row: images may be in it. `problem` says why. `link` is where a folder behind a link stands."""

    name: str
    kind: Literal["file", "folder", "other", "barred", "lost"]
    size: int | None = None
    problem: str | None = None
    link: Identity | None = None
    version: str | None = None


def walk(
    uri: str,
    scope: Scope,
    *,
    pattern: Pattern | None = None,
    state: frozenset[int] = frozenset(),
    above: frozenset[Identity] = frozenset(),
) -> list[Item]:
    """The items of one folder; folders and archives in it are `Later`. `above` are the local folders on the way, to find link
    loops.

    With `pattern` only what matches comes out, and a folder that matches comes out whole. A folder that cannot be listed is a
    row.
    """
    try:
        if storage.is_local(uri):
            about = os.stat(uri)  # noqa: PTH116 — a string may hold bytes that are not UTF-8
            above = above | {(about.st_dev, about.st_ino)}
            children, broken_off = _local_children(uri, above, scope)
        else:
            children, broken_off = list(_remote_children(uri, scope.options)), None
    except Exception as error:  # noqa: BLE001 — each file system raises its own kinds; all become a row
        return [_unlisted(uri, error)]
    children.sort(key=lambda child: (child.name, child.kind == "folder"))
    items = list(_items(uri, children, scope, pattern, state, above))
    return [*items, _unlisted(uri, broken_off, "the rest of ")] if broken_off else items


def _unlisted(uri: str, error: Exception, part: str = "") -> Entry:
    problem = f"{part}the folder cannot be listed: {explain(error)}"
    return Entry(uri=names.printable(uri)[0], problem_status="failed", problem=problem)


def _items(
    uri: str, children: list[_Child], scope: Scope, pattern: Pattern | None, state: frozenset[int], above: frozenset[Identity]
) -> Iterator[Item]:
    is_bids = any(child.name == names.BIDS_MARK for child in children)
    for child in children:
        below, inside = pattern, state
        if pattern is not None:
            inside = pattern.step(state, child.name)
            if pattern.matches(inside):
                below = None
            elif not inside or child.kind in ("file", "other"):
                continue
        place = f"{uri.rstrip('/')}/{child.name}"
        shown, is_text = names.printable(place)
        if child.kind == "other":
            yield _other(child, shown, scope)
        elif child.kind == "file" and scope.sniff and is_text and names.medical_candidate(child.name):
            yield file_item(place, child.size, scope, version=child.version)
        elif reason := names.skip_file(child.name) if child.kind == "file" else names.skip_folder(child.name):
            yield Skipped(uri=shown, reason=reason)
        elif is_bids and child.name in names.BIDS_ASIDE and (pattern is None or below is not None):
            yield Skipped(uri=shown, reason=names.bids_aside(child.name))
        elif child.kind == "barred":
            yield Skipped(uri=shown, reason=child.problem or _LEADS_OUT)
        elif child.kind == "lost":
            yield Entry(uri=shown, problem_status="failed", problem=child.problem)
        elif child.kind == "folder":
            enter = partial(walk, place, scope, pattern=below, state=inside, above=above)
            yield Later(enter, folder=True) if child.link is None else Once(shown, child.link, enter)
        elif not is_text:
            yield Entry(uri=shown, size=child.size, problem_status="unsupported", problem=_NOT_UTF8)
        else:
            yield file_item(place, child.size, scope, version=child.version)


def _other(child: _Child, shown: str, scope: Scope) -> Item:
    """What is neither file nor folder. Where an image is lost with it, it is a row: someone expects that image."""
    if child.problem == _NAMELESS:
        return Entry(uri=shown, problem_status="unsupported", problem=child.problem)
    promises = names.skip_file(child.name) is None or (scope.sniff and names.promises_study(child.name))
    if child.problem in (_BROKEN_LINK, _ANNEX) and promises:
        return Entry(uri=shown, problem_status="failed", problem=child.problem)
    assert child.problem is not None
    return Skipped(uri=shown, reason=child.problem)


def file_item(uri: str, size: int | None, scope: Scope, *, version: str | None = None) -> Item:
    """An image's row, an archive still to be opened, or, for a file named by a person, a row whatever its extension."""
    name = names.last_name(uri)
    if names.archive_kind(name):
        return Later(
            lambda: open_archive(
                uri, size, options=scope.options, size_limit=scope.size_limit, sniff=scope.sniff, version=version
            )
        )
    if scope.sniff and names.medical_candidate(name) and (size is None or size <= scope.size_limit):
        return Entry(uri=uri, size=size, kind=SNIFF, version=version)
    if names.is_dicom(name):
        return Entry(uri=uri, size=size, problem_status="unsupported", problem=names.DICOM_PROBLEM, version=version)
    if not names.promises_study(name) and (unopened := names.unopened_archive(name)):
        return Entry(uri=uri, size=size, problem_status="unsupported", problem=unopened)
    if size is not None and size > scope.size_limit:
        return Entry(uri=uri, size=size, problem_status="unsupported", problem=names.too_large(scope.size_limit))
    return Entry(uri=uri, size=size, version=version)


def named_file(uri: str, scope: Scope) -> Item | None:
    """The item of a file or folder that a person named, or None where nothing is there. Raises what the file system raises
    else.
    """
    if not storage.is_local(uri):
        return _named_remote(uri, scope)
    try:
        about = os.stat(uri)  # noqa: PTH116 — a string may hold bytes that are not UTF-8
    except FileNotFoundError:
        if os.path.lexists(uri):
            return Entry(uri=names.printable(uri)[0], problem_status="failed", problem=_BROKEN_LINK)
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        return Entry(uri=names.printable(uri)[0], problem_status="failed", problem=explain(error))
    if stat.S_ISDIR(about.st_mode):
        return Later(lambda: walk(uri, scope.within(uri)), folder=True)
    shown, is_text = names.printable(uri)
    if not is_text:
        return Entry(uri=shown, size=about.st_size, problem_status="unsupported", problem=_NOT_UTF8)
    if not stat.S_ISREG(about.st_mode):
        return Entry(uri=uri, problem_status="failed", problem=f"not a regular file ({special_kind(about.st_mode)})")
    name = names.last_name(uri)
    if not names.is_image(name) and not names.archive_kind(name) and (problem := hidden_archive(uri)):
        return Entry(uri=uri, size=about.st_size, problem_status="unsupported", problem=problem)
    return file_item(uri, about.st_size, scope, version=local_version(about))


def _named_remote(uri: str, scope: Scope) -> Item | None:
    fs, path = storage.filesystem(uri, scope.options)
    fs.invalidate_cache(path)
    try:
        info = retrying(lambda: fs.info(path))
    except FileNotFoundError:
        return None
    if info.get("type") == "directory" or uri.endswith("/"):
        return Later(lambda: walk(uri.rstrip("/"), scope), folder=True)
    return file_item(uri, info.get("size"), scope, version=remote_version(info))


def _local_children(path: str, above: frozenset[Identity], scope: Scope) -> tuple[list[_Child], OSError | None]:
    """What is in a folder, and the error that broke its listing off. Raises OSError where it cannot be listed at all."""
    children: list[_Child] = []
    with os.scandir(path) as entries:
        try:
            children.extend(_local_child(entry, above, scope) for entry in entries)
        except OSError as error:  # a dying disk or mount; what came out before stays
            return children, error
    return children, None


def _local_child(entry: "os.DirEntry[str]", above: frozenset[Identity], scope: Scope) -> _Child:
    try:
        about = entry.stat()
    except OSError as error:
        return _unknown_child(entry, error)
    linked = entry.is_symlink()
    barred = linked and scope.bars(entry.path)
    if stat.S_ISDIR(about.st_mode):
        identity = (about.st_dev, about.st_ino)
        if barred or (linked and identity in above):
            return _Child(name=entry.name, kind="barred", problem=_LEADS_OUT if barred else _LOOP)
        return _Child(name=entry.name, kind="folder", link=identity if linked else None)
    if barred:
        return _Child(name=entry.name, kind="other", problem=_LEADS_OUT)
    if stat.S_ISREG(about.st_mode):
        return _Child(name=entry.name, kind="file", size=about.st_size, version=local_version(about))
    return _Child(name=entry.name, kind="other", problem=f"not a regular file ({special_kind(about.st_mode)})")


def _unknown_child(entry: "os.DirEntry[str]", error: OSError) -> _Child:
    """A name that cannot be asked about: gone by now, forbidden, too long, on a mount that died. What the folder itself says of its kind
    is all that is known; only what is surely a file may be judged by its name."""
    try:
        if entry.is_symlink():
            if error.errno == errno.ELOOP:
                return _Child(name=entry.name, kind="other", problem=_LOOP)
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                away = ".git/annex/objects/" in os.readlink(entry.path)  # noqa: PTH115 — a string may hold bytes that are not UTF-8
                return _Child(name=entry.name, kind="other", problem=_ANNEX if away else _BROKEN_LINK)
            return _Child(name=entry.name, kind="lost", problem=f"what the link points to: {explain(error)}")
        if entry.is_file(follow_symlinks=False):
            return _Child(name=entry.name, kind="file")  # reading it tells what is the matter
        folder = entry.is_dir(follow_symlinks=False)
    except OSError:
        folder = False
    return _Child(name=entry.name, kind="lost", problem=f"{'the folder cannot be listed: ' if folder else ''}{explain(error)}")


def special_kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _remote_children(uri: str, options: storage.Options) -> Iterator[_Child]:
    fs, path = storage.filesystem(uri, options)
    fs.invalidate_cache(path)
    listing = retrying(lambda: fs.ls(path, detail=True))
    fs.invalidate_cache(path)  # fsspec would keep every folder of a bucket in memory
    base = path.rstrip("/") + "/" if path.strip("/") else path
    for info in listing:
        name = info["name"]
        folder = info["type"] == "directory"
        if name.rstrip("/") == path.rstrip("/"):
            if folder and name.endswith("/"):
                # A key with "//": the file system cannot list what is below an empty name.
                yield _Child(name="/", kind="other", problem=_NAMELESS)
            continue  # the empty object that stands for the folder itself
        if not name.startswith(base) and base:
            continue  # a link on a web page that leads elsewhere
        inner = name[len(base) :].rstrip("/").lstrip("/")
        if folder:
            yield _Child(name=inner, kind="folder")
        else:
            yield _Child(name=inner, kind="file", size=info.get("size"), version=remote_version(info))
