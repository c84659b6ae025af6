"""What a row shows of where it came from: the columns of its slice, and in a private run a pseudonym in place of its path."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.archive import names
from btc_ray.archive.entries import ReadError
from btc_ray.archive.manifest import SLICE
from btc_ray.archive.reader import ByteReader
from btc_ray.images.decode import decode
from btc_ray.storage.redact import public_uri
from btc_ray.studies.pairs import whole_volume

STUDY: list[Any] = [
    pa.field("kind", pa.string()),
    pa.field("frame", pa.int32()),
    *SLICE,
    pa.field("window_low", pa.float32()),
    pa.field("window_high", pa.float32()),
    pa.field("geometry", pa.string()),
]
"""Of slices of DICOM and NIfTI files; null for pictures."""
_FROM_MANIFEST = ("kind", "frame", *(column.name for column in SLICE))
BURNED_IN = "not shown: a name may be burned into the picture (burned_in of its series)"
MAY_BE_BURNED_IN = ("yes", "suspected")  # values of burned_in whose series no page shows
_SHORTEST_PART = 3  # letters of a folder or file name that would be found in an error by chance


def with_study(prepared: pa.Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A prepared table with the columns of STUDY that its manifest `rows` have."""
    fields = {column.name: column for column in STUDY}
    for name in _FROM_MANIFEST:
        prepared = prepared.append_column(fields[name], pa.array([row.get(name) for row in rows], fields[name].type))
    geometry = [_geometry(row) for row in rows]
    return prepared.append_column(fields["geometry"], pa.array(geometry, pa.string()))


def without_paths(prepared: pa.Table, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """A prepared table without the paths of its manifest `rows` where they are private, and without credentials of web addresses."""
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
            error = error.removeprefix(f"{names.printable(whole)[0]}: ")
            error = error.replace(whole, "…") if "/" in whole else _without_word(error, whole)
    for part in sorted(set() if not parts else set(uri.replace("::", "/").split("/")), key=len, reverse=True):
        if len(part) >= _SHORTEST_PART:
            error = error.replace(part, "…")
    return error


def _without_word(text: str, word: str) -> str:
    """A file called "a" names nobody, and takes no letter out of a sentence."""
    return text if len(word) == 1 else re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "…", text)


def picture_of_row(row: Mapping[str, Any], reader: ByteReader) -> bytes | np.ndarray:
    """What a page shows of a manifest row: the bytes of a picture file, or one frame, uint8 (H, W).

    Raises ReadError, whose text has no private path, and what decoding raises.
    """
    try:
        data = reader.read(row)
    except ReadError as error:
        if row.get("shown_uri"):
            raise ReadError("the file cannot be read again", status=error.status) from None
        raise
    return data if row.get("frame") is None else decode(whole_volume(data, row, reader), frame=row["frame"])


def file_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What is the same for the frames of one file, and for no other rows."""
    return names.file_of(row["uri"]) if row.get("frame") is not None else row["uri"], row.get("offset"), row.get("problem_status")


def _geometry(row: dict[str, Any]) -> str | None:
    if row.get("kind") is None or row.get("frame") is None:
        return None
    return "none" if row.get("plane") is None else "affine"
