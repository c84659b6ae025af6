"""The frozen list of inputs: Parquet parts of numbered rows, the skipped beside them, and a summary for a person.

`write_entries` holds one part in memory. A local manifest appears whole by one rename; on an object store its parts are plain
uploads, and the caller's own mark says when they are complete.
"""

import contextlib
import hashlib
import io
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.archive import names
from btc_ray.archive.addresses import sealed
from btc_ray.archive.entries import SNIFF, ArchiveError, Entry, Skipped
from btc_ray.storage import Place
from btc_ray.storage.redact import public_uri
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

    `formats` counts rows by extension. `fingerprint` is a sha256 over the `digest` of each part, in order: of equal versions of btc-ray
    equal fingerprints are equal lists of inputs (names and sizes, not contents).
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
class Tally:
    """The summary while it grows, part by part; bounded, whatever is counted. `digests` are those of the parts; `sniffed` counts rows that
    have to be looked into."""

    rows: int = 0
    size: int = 0
    unknown_sizes: int = 0
    parts: int = 0
    sniffed: int = 0
    problems: dict[str, list[Any]] = field(default_factory=dict)
    skipped: dict[str, list[Any]] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)

    def skip(self, found: Skipped) -> None:
        """Count a name that is no row."""
        _count(self.skipped, found.reason, 1, [found.uri])

    def add(self, part: pa.Table) -> None:
        """Count the rows of one part."""
        self.rows += len(part)
        self.parts += 1
        self.size += pc.sum(part["size"]).as_py() or 0
        self.unknown_sizes += part["size"].null_count
        self.sniffed += pc.sum(pc.equal(part["kind"], SNIFF)).as_py() or 0
        for entry in pc.value_counts(_formats(part)).to_pylist():
            self._format(entry["values"] or "no extension", entry["counts"])
        bad = part.filter(part["problem"].is_valid()).select(["problem_status", "problem", "uri"])
        for row in bad.to_pylist():
            _count(self.problems, f"{row['problem_status']}: {row['problem']}", 1, [public_uri(row["uri"])])
        self.digests.append(digest(part))

    def merge(self, later: "Tally") -> None:
        """Count what was listed after this, all but its parts, which are to be cut anew."""
        self.rows, self.size = self.rows + later.rows, self.size + later.size
        self.unknown_sizes, self.sniffed = self.unknown_sizes + later.unknown_sizes, self.sniffed + later.sniffed
        for name, number in later.formats.items():
            self._format(name, number)
        for mine, theirs in ((self.problems, later.problems), (self.skipped, later.skipped)):
            for reason, (number, uris) in theirs.items():
                _count(mine, reason, number, uris)

    def _format(self, name: str, number: int) -> None:
        name = name if name in self.formats or len(self.formats) < _MOST_REASONS else "other"
        self.formats[name] = self.formats.get(name, 0) + number

    def summary(self) -> ManifestSummary:
        """What it comes to."""
        return ManifestSummary(
            rows=self.rows,
            size=self.size,
            unknown_sizes=self.unknown_sizes,
            parts=self.parts,
            problems=_by_count(self.problems),
            skipped=_by_count(self.skipped),
            formats=dict(sorted(self.formats.items(), key=lambda item: (-item[1], item[0]))),
            fingerprint=hashlib.sha256(b"".join(self.digests)).hexdigest(),
        )


def digest(part: pa.Table) -> bytes:
    """sha256 over what tells the rows of a part: lengths and bytes of texts, and numbers, -1 for null.

    Without the wording of a problem, which may change while the row does not.
    """
    sha = hashlib.sha256()
    for name in ("uri", "size", "container", "offset", "packed_size", "packing", "problem_status"):
        column = part[name].combine_chunks()
        if pa.types.is_string(column.type):
            lengths = pc.binary_length(column).fill_null(-1)
            sha.update(np.asarray(lengths, "<i4").tobytes())
            text = pa.concat_arrays([column.fill_null("")])  # a buffer of its own, from its beginning
            total = int(np.maximum(np.asarray(lengths), 0).sum())
            sha.update(memoryview(text.buffers()[2])[:total] if total else b"")
        else:
            sha.update(np.asarray(column.fill_null(-1), "<i8").tobytes())
    return sha.digest()


def _formats(part: pa.Table) -> pa.ChunkedArray:
    """`dicom`, `nifti`, or the extension of each row in lower case, null without one."""
    uris = part["uri"]
    if pc.any(pc.starts_with(uris, pattern="http")).as_py():  # where a query may follow the name
        ends = pa.chunked_array([[names.extension(names.last_name(uri)) or None for uri in uris.to_pylist()]], pa.string())
    else:
        found = pc.extract_regex(uris, r"(?s)[^/](?P<end>\.[^./]*)/*$")
        ends = pc.utf8_lower(pc.struct_field(found, "end"))
    medical = pc.is_in(part["kind"], value_set=pa.array(["dicom", "nifti"]))
    return pc.if_else(medical, part["kind"], ends)


def _count(reasons: dict[str, list[Any]], reason: str, number: int, uris: Sequence[str]) -> None:
    if reason not in reasons and len(reasons) >= _MOST_REASONS:
        reason = "other reasons"
    counted = reasons.setdefault(reason, [0, []])
    counted[0] += number
    counted[1].extend(uris[: EXAMPLES - len(counted[1])])


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
) -> Tally:
    """Write what a listing found into `destination`/part-00000.parquet … (SCHEMA; row_id 0..n-1) and the skipped into the file
    `skipped`.

    What stands at `destination` is replaced: a caller that already committed a manifest does not call this again. Raises as the listing
    does, and OSError where nothing can be written; then a local destination is as it was before. Returns what was written, counted.
    """
    if rows_per_part < 1:
        raise ValueError(f"rows_per_part must be at least 1, not {rows_per_part}")
    tally = Tally()
    rows: list[Entry] = []

    def write(folder: Place) -> None:
        table = _part([sealed(row, destination.options) for row in rows], tally.rows)
        write_part(folder, tally.parts, table)
        tally.add(table)
        rows.clear()

    with _folder(destination) as folder, _skipped_file(skipped) as skip:
        for item in found:
            seen(item)
            if isinstance(item, Skipped):
                item = replace(item, uri=public_uri(item.uri))
                tally.skip(item)
                skip(item)
                continue
            rows.append(item)
            if len(rows) == rows_per_part:
                write(folder)
        if rows:
            write(folder)
    return tally


def _part(rows: list[Entry], first_row_id: int) -> pa.Table:
    columns = [pa.array(range(first_row_id, first_row_id + len(rows)), pa.int64())]
    columns += [pa.array([getattr(row, entry.name) for row in rows], entry.type) for entry in _FIELDS[1:]]
    of_slices = list(SCHEMA)[len(_FIELDS) : -1]
    if any(row.slice is not None for row in rows):
        slices = [row.slice for row in rows]
        columns += [pa.array([one and getattr(one, entry.name) for one in slices], entry.type) for entry in of_slices]
    else:
        columns += [pa.nulls(len(rows), entry.type) for entry in of_slices]
    columns.append(pa.array([row.version for row in rows], VERSION.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def write_part(folder: Place, number: int, table: pa.Table) -> None:
    """Write one part of a manifest."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=_ROWS_PER_GROUP, compression="zstd")
    (folder / f"part-{number:05d}.parquet").write(buffer.getvalue())


def cut(lengths: Sequence[int], rows_each: int) -> list[list[tuple[int, int, int]]]:
    """Files of `lengths` rows, taken as one, in pieces of `rows_each`: of each the files that it spans (number, first row, end)."""
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    pieces = []
    first = 0
    for start in range(0, ends[-1] if ends else 0, rows_each):
        stop = min(start + rows_each, ends[-1])
        while ends[first] <= start:
            first += 1
        piece, number = [], first
        while number < len(ends) and ends[number] - lengths[number] < stop:
            begin = ends[number] - lengths[number]
            if lengths[number]:
                piece.append((number, max(start - begin, 0), min(stop - begin, lengths[number])))
            number += 1
        pieces.append(piece)
    return pieces


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
