"""What a row shows of where it came from: the columns of its slice, and in a private run a pseudonym in place of its path."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from btc_ray.archive import names
from btc_ray.archive.manifest import SLICE
from btc_ray.scoring.table import STUDY
from btc_ray.storage.redact import public_uri

_FROM_MANIFEST = ("kind", "frame", *(column.name for column in SLICE))
_SHORTEST_PART = 3  # letters of a folder or file name that would be found in an error by chance


def as_shown(prepared: pa.Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A prepared table with the columns of its manifest `rows` that `scores` has too; paths are taken out where they are
    private, and credentials of web addresses always."""
    fields = {column.name: column for column in STUDY}
    for name in _FROM_MANIFEST:
        prepared = prepared.append_column(fields[name], pa.array([row.get(name) for row in rows], fields[name].type))
    geometry = [_geometry(row) for row in rows]
    prepared = prepared.append_column(fields["geometry"], pa.array(geometry, pa.string()))
    shown = [row.get("shown_uri") or public_uri(row["uri"]) for row in rows]
    if shown == [row["uri"] for row in rows]:
        return prepared
    errors = [
        error if error is None or not row.get("shown_uri") else without_path(error, row, parts=status == "failed")
        for error, status, row in zip(prepared["error"].to_pylist(), prepared["status"].to_pylist(), rows, strict=True)
    ]
    for name, values in (("uri", shown), ("error", errors)):
        at = prepared.schema.get_field_index(name)
        prepared = prepared.set_column(at, prepared.schema.field(at), pa.array(values, pa.string()))
    return prepared


def without_path(error: str, row: dict[str, Any], *, parts: bool) -> str:
    """An error text without the path of its row. `parts`: without any single part of it either, which only what a file system says may
    hold; elsewhere a folder called "data" would take a word out of a sentence.
    """
    uri = names.file_of(row["uri"])
    container = row.get("container") or ""
    inside = uri[len(container) :]
    for whole in (names.last_name(container) + inside if container else names.last_name(uri), uri, container, inside.lstrip(":")):
        if whole:
            error = error.replace(f"{names.printable(whole)[0]}: ", "").replace(whole, "…")
    for part in sorted(set() if not parts else set(uri.replace("::", "/").split("/")), key=len, reverse=True):
        if len(part) >= _SHORTEST_PART:
            error = error.replace(part, "…")
    return error


def file_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What is the same for the frames of one file, and for no other rows."""
    return names.file_of(row["uri"]) if row.get("frame") is not None else row["uri"], row.get("offset"), row.get("problem_status")


def _geometry(row: dict[str, Any]) -> str | None:
    if row.get("kind") is None or row.get("frame") is None:
        return None
    return "none" if row.get("plane") is None else "affine"
