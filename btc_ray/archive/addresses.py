"""Addresses with credentials among a job's inputs, and the key that seals them (`storage.sealed`)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.entries import ArchiveError, Entry
from btc_ray.archive.tables import table_parts
from btc_ray.storage import Place
from btc_ray.storage.redact import public_uri
from btc_ray.storage.retries import explain
from btc_ray.storage.sealed import KEY, seal


def with_key(inputs: Sequence[str], options: storage.Options) -> dict[str, str]:
    """`options` with the key of these inputs: the sha256 of what their lists hold, and of the addresses among them that carry credentials,
    so that it is the same from whatever folder the command is given. Without a list and such an address there is none.

    Raises ArchiveError where a list is there and cannot be read: a key made without it would be no secret.
    """
    digest, wanted = hashlib.sha256(), False
    for uri in inputs:
        if public_uri(uri) != uri:
            wanted = True
            digest.update(uri.encode("utf-8", "surrogateescape") + b"\0")
        for part in _lists(uri, options):
            if (held := _digest(part)) is not None:
                wanted = True
                digest.update(held)
    return dict(options or {}) | ({KEY: digest.hexdigest()} if wanted else {})


def sealed(entry: Entry, options: storage.Options) -> Entry:
    """The entry as a file may hold it."""
    place = entry.container or entry.uri
    if "://" not in place or (shown := seal(place, options)) == place:
        return entry
    return replace(entry, uri=shown + entry.uri[len(place) :], container=entry.container and shown)


def _lists(uri: str, options: storage.Options) -> list[Place]:
    """The files of a folder that is one table, or what is called as a list is; a folder that nobody may enter the listing tells."""
    try:
        parts = [part for part, _ in table_parts(uri, options) or []]
    except OSError:
        return []
    if not parts and names.list_kind(names.last_name(uri)):
        parts = [uri]
    return [Place(part, dict(options or {})) for part in parts]


def _digest(file: Place) -> bytes | None:
    """sha256 of a file; None where there is no file of this name, or a folder."""
    try:
        if file.is_local:
            with file.path().open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").digest()
        return hashlib.sha256(file.read()).digest()
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise ArchiveError(f"the list {file} cannot be read: {explain(error)}") from error
