"""Addresses with credentials among a job's inputs, and the key that seals them (`storage.sealed`)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.entries import Entry
from btc_ray.archive.tables import table_parts
from btc_ray.storage import Place
from btc_ray.storage.redact import public_uri
from btc_ray.storage.sealed import KEY, seal


def with_key(inputs: Sequence[str], options: storage.Options) -> dict[str, str]:
    """`options` with the key of these inputs, where one of them is a list or an address with credentials: the sha256 of the inputs as they
    are given and of what the lists hold. What cannot be read is left to the listing to tell."""
    digest, wanted = hashlib.sha256(), False
    for uri in inputs:
        digest.update(uri.encode("utf-8", "surrogateescape") + b"\0")
        wanted |= public_uri(uri) != uri
        for part in _lists(uri, options):
            wanted = True
            digest.update(_digest(part))
    return dict(options or {}) | ({KEY: digest.hexdigest()} if wanted else {})


def sealed(entry: Entry, options: storage.Options) -> Entry:
    """The entry as a file may hold it."""
    place = entry.container or entry.uri
    if "://" not in place or (shown := seal(place, options)) == place:
        return entry
    return replace(entry, uri=shown + entry.uri[len(place) :], container=entry.container and shown)


def _lists(uri: str, options: storage.Options) -> list[Place]:
    try:
        if parts := table_parts(uri, options):
            return [Place(part, dict(options or {})) for part, _ in parts]
        if names.list_kind(names.last_name(uri)):
            return [Place(uri, dict(options or {}))]
    except (OSError, storage.StorageError):
        pass
    return []


def _digest(file: Place) -> bytes:
    try:
        if file.is_local:
            with file.path().open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").digest()
        return hashlib.sha256(file.read()).digest()
    except (OSError, storage.StorageError):
        return b""
