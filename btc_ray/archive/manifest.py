"""The frozen list of inputs: Parquet parts of numbered rows, the skipped beside them, and a summary for a person.

`write_entries` holds one part in memory. A local manifest appears whole by one rename; on an object store its parts are plain
uploads, and the caller's own mark says when they are complete.
"""

import contextlib
import hashlib
import io
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.archive import names
from btc_ray.archive.entries import ArchiveError, Entry, Skipped
from btc_ray.storage import Place
from btc_ray.storage.tables import table_file

_FIELDS: list[Any] = [
    pa.field("row_id", pa.int64(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("size", pa.int64()),
    pa.field("container", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("packed_size", pa.int64()),
    pa.field("packing", pa.string()),
    pa.field("problem_status", pa.string()),
    pa.field("problem", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("frame", pa.int32()),
    pa.field("series", pa.string()),
]
SLICE: list[Any] = [
    pa.field("slice_index", pa.int32()),
    pa.field("position_mm", pa.float32()),
    pa.field("plane", pa.string()),
    pa.field("oblique_deg", pa.float32()),
    pa.field("patient_key", pa.string()),
    pa.field("exam_key", pa.string()),
    pa.field("series_key", pa.string()),
    pa.field("image_key", pa.string()),
    pa.field("duplicate_of", pa.int64()),
]
"""What is known of a slice before it is read, null for pictures; `scores` has these columns too."""
VERSION = pa.field("version", pa.string())  # as `versions` has it; manifests of before there were nights have none
SCHEMA = pa.schema([*_FIELDS, pa.field("shown_uri", pa.string()), *SLICE, VERSION])
SKIPPED_SCHEMA = pa.schema([pa.field("uri", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])

ROWS_PER_PART = 100_000
_ROWS_PER_GROUP = 10_000  # a reader may take a part in ten pieces
_SKIPPED_AT_ONCE = 10_000
EXAMPLES = 20
_MOST_REASONS = 200


@dataclass(frozen=True, kw_only=True)
class ReasonCount:
    """How many rows or names one reason concerns, and the first few of their URIs."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ManifestSummary:
    """What the inputs hold. `size` is in bytes, of the rows whose size is known; `unknown_sizes` counts the others.

    `formats` counts rows by extension. `fingerprint` is a sha256 over uri, size, container, offset, packed_size, packing and
    problem_status of all rows in order: equal fingerprints are equal lists of inputs (names and sizes, not contents).
    """

    rows: int
    size: int
    unknown_sizes: int
    parts: int
    problems: dict[str, ReasonCount]
    skipped: dict[str, ReasonCount]
    formats: dict[str, int]
    fingerprint: str


@dataclass(kw_only=True)
class _SummaryBuilder:
    """The summary while it grows; bounded, whatever is counted."""

    rows: int = 0
    size: int = 0
    unknown_sizes: int = 0
    problems: dict[str, list[Any]] = field(default_factory=dict)
    skipped: dict[str, list[Any]] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, found: Entry | Skipped) -> None:
        if isinstance(found, Skipped):
            _count(self.skipped, found.reason, found.uri)
            return
        self.rows += 1
        self.size += found.size or 0
        self.unknown_sizes += found.size is None
        end = found.kind if found.kind in ("dicom", "nifti") else names.extension(names.last_name(found.uri)) or "no extension"
        end = end if end in self.formats or len(self.formats) < _MOST_REASONS else "other"
        self.formats[end] = self.formats.get(end, 0) + 1
        if found.problem:
            _count(self.problems, f"{found.problem_status}: {found.problem}", found.uri)
        # Without the wording of a problem, which may change while the row does not.
        values = (found.uri, found.size, found.container, found.offset, found.packed_size, found.packing, found.problem_status)
        self.digest.update(json.dumps(values).encode() + b"\n")

    def summary(self, parts: int) -> ManifestSummary:
        return ManifestSummary(
            rows=self.rows,
            size=self.size,
            unknown_sizes=self.unknown_sizes,
            parts=parts,
            problems=_by_count(self.problems),
            skipped=_by_count(self.skipped),
            formats=dict(sorted(self.formats.items(), key=lambda item: (-item[1], item[0]))),
            fingerprint=self.digest.hexdigest(),
        )


def _count(reasons: dict[str, list[Any]], reason: str, uri: str) -> None:
    if reason not in reasons and len(reasons) >= _MOST_REASONS:
        reason = "other reasons"
    counted = reasons.setdefault(reason, [0, []])
    counted[0] += 1
    if len(counted[1]) < EXAMPLES:
        counted[1].append(uri)


def _by_count(reasons: dict[str, list[Any]]) -> dict[str, ReasonCount]:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1][0], item[0]))
    return {reason: ReasonCount(count=count, examples=tuple(uris)) for reason, (count, uris) in ordered}


def write_entries(
    found: Iterator[Entry | Skipped],
    destination: Place,
    *,
    skipped: Place | None = None,
    rows_per_part: int = ROWS_PER_PART,
    seen: Callable[[Entry | Skipped], None] = lambda found: None,
) -> ManifestSummary:
    """Write what a listing found into `destination`/part-00000.parquet … (SCHEMA; row_id 0..n-1) and the skipped into the file
    `skipped`.

    What stands at `destination` is replaced: a caller that already committed a manifest does not call this again. Raises as the listing
    does, and OSError where nothing can be written; then a local destination is as it was before.
    """
    if rows_per_part < 1:
        raise ValueError(f"rows_per_part must be at least 1, not {rows_per_part}")
    counter = _SummaryBuilder()
    parts = 0
    rows: list[Entry] = []
    with _folder(destination) as folder, _skipped_file(skipped) as skip:
        for item in found:
            counter.add(item)
            seen(item)
            if isinstance(item, Skipped):
                skip(item)
                continue
            rows.append(item)
            if len(rows) == rows_per_part:
                _write_part(folder, parts, rows, counter.rows - len(rows))
                parts, rows = parts + 1, []
        if rows:
            _write_part(folder, parts, rows, counter.rows - len(rows))
            parts += 1
    return counter.summary(parts)


def _write_part(folder: Place, number: int, rows: list[Entry], first_row_id: int) -> None:
    columns = [pa.array(range(first_row_id, first_row_id + len(rows)), pa.int64())]
    columns += [pa.array([getattr(row, entry.name) for row in rows], entry.type) for entry in _FIELDS[1:]]
    columns += [
        pa.array([None if row.slice is None else getattr(row.slice, entry.name) for row in rows], entry.type)
        for entry in list(SCHEMA)[len(_FIELDS) : -1]
    ]
    columns.append(pa.array([row.version for row in rows], VERSION.type))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), buffer, row_group_size=_ROWS_PER_GROUP, compression="zstd")
    (folder / f"part-{number:05d}.parquet").write(buffer.getvalue())


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


@contextlib.contextmanager
def _folder(place: Place) -> Iterator[Place]:
    """Where parts are written: remote the destination itself, emptied first; local a folder beside it that takes its place
    at the end.
    """
    if not place.is_local:
        # Parts of an earlier, longer and unfinished listing would otherwise stay among the new ones.
        for part in place.files(".parquet"):
            if _is_part(part.name):
                part.remove()
        yield place
        return
    target = place.path()
    if target.exists() and (not target.is_dir() or not all(_is_part(child.name) for child in target.iterdir())):
        raise ArchiveError(f"{target} holds something else than a manifest and is not replaced; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:12]
    temporary, old = (target.with_name(f".{target.name}.{mark}.{end}") for end in ("tmp", "old"))
    temporary.mkdir()
    try:
        yield Place(str(temporary))
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def _skipped_file(place: Place | None) -> Iterator[Any]:
    """A function that takes each Skipped; the Parquet file is there when the block ends well (no skips: an empty table)."""
    if place is None:
        yield lambda skipped: None
        return
    waiting: list[Skipped] = []
    with table_file(place, SKIPPED_SCHEMA) as write:

        def flush() -> None:
            write({"uri": [item.uri for item in waiting], "reason": [item.reason for item in waiting]})
            waiting.clear()

        def skip(item: Skipped) -> None:
            waiting.append(item)
            if len(waiting) >= _SKIPPED_AT_ONCE:
                flush()

        yield skip
        flush()
