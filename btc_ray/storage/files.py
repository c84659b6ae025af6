"""URIs → file systems: the verbs every room needs on a path, s3://, gs://, az://, http(s)://, memory:// (whatever fsspec knows).

Local files never go through fsspec. Writing bytes is all or nothing: a reader sees the old file or the new one.
"""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec

from btc_ray.errors import UserError
from btc_ray.storage.redact import redact
from btc_ray.storage.retries import retrying
from btc_ray.storage.sealed import KEY

Options = Mapping[str, str] | None

_FILE_URI = re.compile(r"^file:(?://|(?=/))", re.IGNORECASE)  # Java writes file:/path
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]+)://", re.DOTALL)
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}


class StorageError(UserError):
    """A path or URI that cannot be used: an unknown scheme, a missing package, options that the file system does not take."""


def scheme(uri: str) -> str:
    """`s3` of `s3://…`, lower case; `file` for a plain path."""
    found = _SCHEME.match(uri)
    return found.group(1).lower() if found else "file"


def is_local(uri: str) -> bool:
    """Whether `uri` is a plain path or `file://`."""
    return scheme(uri) == "file"


def local_path(uri: str) -> str:
    """The absolute path of a local URI. In `file:` URIs %20 is decoded where more of the decoded path exists than of the path as it
    stands: pathlib, Spark and desktops write it for a space, while fsspec means those three characters.

    Raises StorageError for a URI that is not local, or empty.
    """
    if not is_local(uri):
        raise StorageError(f"{redact(uri)!r} is not a path on this machine")
    path = uri
    if prefix := _FILE_URI.match(uri):
        path = uri[prefix.end() :]
        path = path.removeprefix("localhost") if path.startswith("localhost/") else path
        path = _decoded(path) if "%" in path else path
    if not path:
        raise StorageError("an empty path was given; name a file, a folder or a URI")
    if "\0" in path:
        raise StorageError(f"{path!r} holds a NUL character, which no file name has")
    return os.path.abspath(path)  # noqa: PTH100 — not Path.resolve: symbolic links stay as the user wrote them


def _decoded(path: str) -> str:
    """Whichever of the path and its %-decoded form leads further down to what exists."""
    decoded = unquote(path, errors="surrogateescape")
    return decoded if _existing_parts(decoded) > _existing_parts(path) else path


def _existing_parts(path: str) -> int:
    """How many names of the path, from its first on, exist; one that holds `::` (a member of an archive) by what stands before it."""
    place, count = "", 0
    for name in path.strip("/").split("/"):
        if not os.path.lexists(f"{place}/{name}") and not (
            "::" in name and os.path.lexists(f"{place}/{name.partition('::')[0]}")
        ):
            break
        place, count = f"{place}/{name}", count + 1
    return count


def absolute(uri: str) -> str:
    """Local URIs as an absolute plain path, so that a table can be used from anywhere; others without a trailing slash."""
    return local_path(uri) if is_local(uri) else uri.rstrip("/") if "://" in uri.rstrip("/") else uri


def filesystem(uri: str, options: Options = None) -> tuple[Any, str]:
    """The fsspec file system of `uri` and the path inside it. `options` are used for URIs that are not local only.

    Values `true`/`false` become booleans and values starting with `{` are read as JSON (`client_kwargs={"region_name":
    "eu-west-1"}`). Raises StorageError for an unknown scheme, a missing package or options the file system does not take.
    """
    if is_local(uri):
        return fsspec.filesystem("file"), local_path(uri)
    name = scheme(uri)
    try:
        kind = _kind(name)
        chosen = {key: _option(key, value) for key, value in (options or {}).items() if key != KEY}
        return kind(**{**kind._get_kwargs_from_urls(uri), **chosen}), str(kind._strip_protocol(uri))
    except ImportError as error:
        extra = _EXTRAS.get(name)
        remedy = f"install it with: pip install 'btc-ray[{extra}]'" if extra else f"install it ({error})"
        raise StorageError(f"{name}:// needs a package that is not installed; {remedy}") from error
    except StorageError:
        raise
    except Exception as error:
        reason = redact(f"{type(error).__name__}: {error}", options)
        keys = ", ".join(sorted({*(options or {})} - {KEY})) or "none"
        raise StorageError(
            f"cannot open {redact(uri)} ({reason}); check the URI and --storage-options (given: {keys})"
        ) from error


def arrow_filesystem(uri: str, options: Options = None) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of `uri` and the path inside it, as pyarrow and Ray Data take them. Raises as `filesystem` does."""
    import pyarrow.fs

    if is_local(uri):
        return pyarrow.fs.LocalFileSystem(), local_path(uri)
    fs, path = filesystem(uri, options)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), path


def _kind(name: str) -> Any:
    """The file system class of a scheme."""
    kind = fsspec.get_filesystem_class(name)
    if name in ("s3", "s3a"):
        from btc_ray.storage.s3 import PatientS3

        return PatientS3
    if name in ("http", "https"):
        from btc_ray.storage.web import WebFileSystem

        return WebFileSystem
    return kind


def _option(key: str, value: str) -> object:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise StorageError(f"storage option {key!r} starts with {{ but is not JSON: {error}") from error
    return value


def join(uri: str, *parts: str) -> str:
    """`uri` with `parts` below it. Nothing is escaped: `#`, `?`, `%` and spaces are part of the name."""
    for part in parts:
        uri = f"{uri.rstrip('/')}/{part.strip('/')}" if not uri.endswith("://") else uri + part.strip("/")
    return uri


def exists(uri: str, options: Options = None) -> bool:
    """Whether a file or folder is there (asked of the store itself, not of a cached listing)."""
    if is_local(uri):
        return os.path.lexists(local_path(uri))
    fs, path = filesystem(uri, options)
    fs.invalidate_cache(path)
    return bool(retrying(lambda: fs.exists(path)))


def read_bytes(uri: str, options: Options = None) -> bytes:
    """The whole file. Raises OSError (FileNotFoundError where there is none)."""
    if is_local(uri):
        return Path(local_path(uri)).read_bytes()
    fs, path = filesystem(uri, options)
    return bytes(retrying(lambda: fs.cat_file(path)))


def write_bytes(uri: str, data: bytes, options: Options = None) -> None:
    """Write a whole file, making its folder. Local: temporary file beside it, fsync, rename; elsewhere one put."""
    if not is_local(uri):
        fs, path = filesystem(uri, options)
        retrying(lambda: fs.pipe_file(path, data))
        return
    target = Path(local_path(uri))
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: its 0600 would hide the file from the rest of a research group, where open() follows the umask.
    temporary = target.with_name(f".{target.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def list_files(uri: str, suffix: str = "", options: Options = None) -> list[str]:
    """URIs of the files directly in the folder `uri` whose names end in `suffix`, sorted by name. No folder: an empty list."""
    if is_local(uri):
        folder = Path(local_path(uri))
        if not folder.is_dir():
            return []
        return sorted(
            join(str(folder), entry.name) for entry in folder.iterdir() if entry.name.endswith(suffix) and entry.is_file()
        )
    fs, path = filesystem(uri, options)
    fs.invalidate_cache(path)
    try:
        found = retrying(lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return []
    names = [info["name"].rsplit("/", 1)[-1] for info in found if info["type"] == "file"]
    return [join(uri, name) for name in sorted(names) if name and name.endswith(suffix)]


def remove_tree(uri: str, options: Options = None) -> None:
    """Delete a folder and everything in it, or one file; nothing there is fine."""
    if is_local(uri):
        path = Path(local_path(uri))
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return
    fs, inner = filesystem(uri, options)
    fs.invalidate_cache(inner)
    with contextlib.suppress(FileNotFoundError):
        retrying(lambda: fs.rm(inner, recursive=True))
    fs.invalidate_cache(inner)


def move(source: str, target: str, options: Options = None) -> None:
    """Rename a file within one file system, making the folder of its new name; what stood there is replaced."""
    if is_local(source):
        Path(local_path(target)).parent.mkdir(parents=True, exist_ok=True)
        Path(local_path(source)).replace(local_path(target))
        return
    fs, path = filesystem(source, options)
    retrying(lambda: fs.mv(path, filesystem(target, options)[1]))
