"""What a run is to score: the inputs listed, files that may be DICOM or NIfTI looked into, their series chosen, the manifest written.

Rows are in the order of the listing; a file of several frames is that many rows. Memory: the index of the medical files.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.archive import names
from btc_ray.archive.entries import SNIFF, Entry, NoImagesError, ReadError, Skipped, SliceOf
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.manifest import ManifestSummary, write_entries
from btc_ray.archive.reader import ByteReader
from btc_ray.progress import Progress, say
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.known import KNOWN_SCHEMA, Known
from btc_ray.settings import Score
from btc_ray.storage import Place
from btc_ray.storage.tables import table_file
from btc_ray.studies.grouping import Grouped, group
from btc_ray.studies.indexing import index_files, pixel_digest, studies_are_read
from btc_ray.studies.keys import Pseudonyms, open_key, write_private
from btc_ray.studies.selection import wanted
from btc_ray.studies.tables import described, keys_of

FILES_A_PART = 2000  # of the index: what a kill while indexing costs
_FILES_A_CALL = 100
_FEW_FILES = 500  # are looked into here: other processes take as long to start
_STUDIES = ("dicom", "nifti")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the inputs came to; `studies` is what run.json says of series, empty where there are none."""

    summary: ManifestSummary
    private: bool = False
    studies: dict[str, Any] = field(default_factory=dict)


def list_to_score(settings: Score, folder: RunFolder, *, known: Known | None, cpus: int) -> Found:
    """Write the manifest of a run and, where there are series, what is known of them into `folder.private`. What `known` knows stands in
    `folder.known` instead, and is not looked into.

    Raises as `write_manifest` does, and NoImagesError with the counts by reason where no series was selected.
    """
    asked = wanted(settings.series)
    candidates = 0

    def count(found: Entry | Skipped) -> None:
        nonlocal candidates
        candidates += isinstance(found, Entry) and found.kind == SNIFF

    listed, skipped = folder.listed, folder.listed_skipped
    sniffed = settings.sniff == "auto" and studies_are_read()
    options = folder.place.options
    listing = list_inputs(settings.input, options=options, follow_links=settings.follow_links, sniff=sniffed)
    if known is None:
        write_entries(listing, listed, skipped=skipped, seen=count)
    else:
        with table_file(folder.listed_known, KNOWN_SCHEMA) as write:
            write_entries(known.new(listing, options=options, known=write), listed, skipped=skipped, seen=count)
        known.tell()
    index = _index(folder, listed, candidates, cpus=cpus) if candidates else None
    medical = index is not None and bool(pc.any(pc.is_in(index["kind"], pa.array(_STUDIES))).as_py())
    private = settings.privacy == "on" or (
        settings.privacy == "auto" and ((medical and _any(index, "dicom")) or (known is not None and known.private))
    )
    pseudonyms = None
    folder.check()  # from here on what all drivers share is written
    if private or medical:
        key = Place(settings.pseudonym_key, folder.place.options) if settings.pseudonym_key else None
        pseudonyms = open_key(file=key, private=folder.private)
    if private:
        folder.keep_private()
    else:
        (folder.private / "index").remove()
    grouped = None
    if medical:
        assert index is not None
        usable = pc.and_(pc.is_in(index["kind"], pa.array(_STUDIES)), pc.is_null(index["problem"]))
        grouped = group(index.filter(usable), asked)
    chosen = _Chosen(
        index=index, grouped=grouped, pseudonyms=pseudonyms, private=private, reader=ByteReader(folder.place.options)
    )
    folder.check()
    kept = chosen.entries(_entries(listed), _skipped(skipped))
    summary = write_entries(kept, folder.manifest, skipped=folder.skipped, seen=lambda found: folder.check())
    if known is not None:
        folder.listed_known.move(folder.known)
    if not summary.rows and (known is None or not known.files):
        raise _nothing(grouped, summary)
    studies: dict[str, Any] = {}
    if grouped is not None:
        assert pseudonyms is not None
        _write_private(folder, grouped, pseudonyms, private=private)
        without, exams = grouped.exams_without_series
        studies = {
            "series": len(grouped.facts),
            "series_selected": sum(one.selected for one in grouped.selected.values()),
            "series_by_fallback": sum(one.selected and one.by == "fallback" for one in grouped.selected.values()),
            "unselected": grouped.unselected,
            "exams": exams,
            "exams_without_series": without,
            "duplicates": chosen.duplicates,
            "same_uid_other_pixels": chosen.conflicts,
        }
        if without:
            say(f"{without:,} of {exams:,} studies have no scored series.")
        if chosen.conflicts:
            say(f"Warning: {chosen.conflicts:,} slices have the SOPInstanceUID of another and other pixels; both are scored.")
    listed.remove()
    skipped.remove()
    return Found(summary=summary, private=private, studies=studies)


def _any(index: pa.Table | None, kind: str) -> bool:
    return index is not None and bool(pc.any(pc.equal(index["kind"], kind)).as_py())


def _nothing(grouped: Grouped | None, summary: ManifestSummary) -> NoImagesError:
    reasons = {reason: tally.count for reason, tally in summary.skipped.items()}
    found = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:8]) or "nothing at all"
    if grouped is None or not grouped.unselected:
        return NoImagesError(f"no image was found (found: {found})", found)
    series = "; ".join(f"{count:,} × {reason}" for reason, count in grouped.unselected.items())
    return NoImagesError(
        f"no series was selected (series: {series}); --series all takes every one that has pixels, --series KEY=VALUE certain ones",
        series,
    )


def _index(folder: RunFolder, listed: Place, candidates: int, *, cpus: int) -> pa.Table:
    """The index of the candidates, in parts that a run which is continued does not make again."""
    say(f"Looking into {candidates:,} files that may be DICOM or NIfTI …")
    options = dict(folder.place.options)
    tables: list[pa.Table] = []
    workers: Executor
    if candidates > _FEW_FILES and cpus > 1:
        workers = ProcessPoolExecutor(min(cpus, 16), mp_context=get_context("spawn"))
    else:
        workers = ThreadPoolExecutor(1)
    with workers, Progress("Indexing", candidates) as progress:
        for rows in _batches(listed, FILES_A_PART):
            part = folder.private / "index" / f"part-{rows[0]['row_id']:012d}.parquet"
            mark = sha256("\0".join(f"{row['uri']}\0{row['size']}" for row in rows).encode("utf-8", "replace")).hexdigest()
            table = _made_before(part, mark)
            if table is None:
                calls = [rows[start : start + _FILES_A_CALL] for start in range(0, len(rows), _FILES_A_CALL)]
                table = pa.concat_tables(workers.map(partial(index_files, options=options), calls))
                table = table.replace_schema_metadata({"files": mark})
                write_private(part, _parquet(table))
            tables.append(table)
            progress.advance(len(rows))
    return pa.concat_tables(tables).combine_chunks()


def _made_before(part: Place, mark: str) -> pa.Table | None:
    try:
        table = part.read_table()
    except (OSError, pa.ArrowInvalid):
        return None
    return table if (table.schema.metadata or {}).get(b"files") == mark.encode() else None


def _batches(listed: Place, size: int) -> Iterator[list[dict[str, Any]]]:
    waiting: list[dict[str, Any]] = []
    for part in listed.files(".parquet"):
        table = part.read_table()
        waiting += table.filter(pc.equal(table["kind"], SNIFF)).to_pylist()
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def _entries(listed: Place) -> Iterator[tuple[int, Entry]]:
    plain = ("uri", "size", "container", "offset", "packed_size", "packing", "problem_status", "problem", "kind", "version")
    for part in listed.files(".parquet"):
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=["row_id", *plain]):
                for row in batch.to_pylist():
                    yield row.pop("row_id"), Entry(**row)


def _skipped(place: Place) -> Iterator[Skipped]:
    for row in place.read_table().to_pylist():
        yield Skipped(**row)


class _Chosen:
    """The rows of a run, from what was listed and what is known of it."""

    def __init__(
        self, *, index: pa.Table | None, grouped: Grouped | None, pseudonyms: Pseudonyms | None, private: bool, reader: ByteReader
    ) -> None:
        self._index, self._grouped, self._pseudonyms, self._private, self._reader = index, grouped, pseudonyms, private, reader
        self.duplicates = self.conflicts = 0
        self._first: dict[tuple[int, int], tuple[int, Entry]] = {}  # of files that others repeat
        if index is None:
            return
        ids = np.asarray(index["file_id"])
        starts = np.flatnonzero(np.concatenate([[True], np.diff(ids) != 0]))
        self._span = {int(ids[start]): (int(start), int(end)) for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)}
        if grouped is not None:
            frames = grouped.frames
            self._frame = {
                (file_id, frame): place
                for place, (file_id, frame) in enumerate(
                    zip(frames["file_id"].to_pylist(), frames["frame"].to_pylist(), strict=True)
                )
            }
            repeated = frames.filter(pc.is_valid(frames["same_as_file"]))
            self._repeated = set(zip(repeated["same_as_file"].to_pylist(), repeated["same_as_frame"].to_pylist(), strict=True))

    def entries(self, listed: Iterator[tuple[int, Entry]], skipped: Iterator[Skipped]) -> Iterator[Entry | Skipped]:
        """Every row and every skipped file of the run."""
        row_id = 0
        for file_id, entry in listed:
            found = self._picture(entry) if entry.kind != SNIFF else self._file(file_id, entry, row_id)
            for item in found:
                row_id += isinstance(item, Entry)
                yield item
        yield from skipped

    def _picture(self, entry: Entry) -> Iterator[Entry]:
        yield _with(entry, kind=None, slice=self._shown(entry.uri, None, "image"))

    def _shown(self, uri: str, frame: int | None, kind: str, **known: Any) -> SliceOf | None:
        shown = self._pseudonyms.uri(uri, frame, kind=kind) if self._private and self._pseudonyms else None
        return SliceOf(shown_uri=shown, **known) if shown or known else None

    def _file(self, file_id: int, entry: Entry, row_id: int) -> Iterator[Entry | Skipped]:
        assert self._index is not None
        start, end = self._span[file_id]
        rows = self._index.slice(start, end - start).to_pylist()
        first = rows[0]
        kind, name = first["kind"], names.last_name(entry.uri)
        if kind == "picture":
            yield from self._picture(entry)
        elif kind == "other":
            yield Skipped(uri=entry.uri, reason=names.skip_file(name) or "not an image (no known extension)")
        elif kind == "dicomdir":
            yield Skipped(uri=entry.uri, reason="an index of DICOM files (DICOMDIR); the files are found by themselves")
        elif first["problem"]:
            shown = kind if kind in _STUDIES else "file"
            known = {"problem_status": first["problem_status"] or "unreadable", "problem": first["problem"]}
            yield _with(entry, **known, kind=kind if kind in _STUDIES else None, slice=self._shown(entry.uri, None, shown))
        else:
            yield from self._frames(entry, rows, row_id)

    def _frames(self, entry: Entry, rows: list[dict[str, Any]], row_id: int) -> Iterator[Entry | Skipped]:
        assert self._grouped is not None
        assert self._pseudonyms is not None
        places = [self._frame[row["file_id"], row["frame"]] for row in rows]
        known = self._grouped.frames.take(pa.array(places)).to_pylist()
        if not known[0]["selected"]:
            yield Skipped(uri=entry.uri, reason=f"series not selected: {self._grouped.selected[known[0]['series']].reason}")
            return
        keys = keys_of(known[0]["series"], self._grouped, self._pseudonyms)
        for row, at in zip(rows, known, strict=True):
            several = row["frames"] > 1
            uri = names.frame_uri(entry.uri, row["kind"], row["frame"]) if several else entry.uri
            image = self._pseudonyms.key("image", row["sop_uid"] or entry.uri)
            about = self._shown(
                entry.uri,
                row["frame"] if several else None,
                row["kind"],
                **{name: at[name] for name in ("slice_index", "position_mm", "plane", "oblique_deg")},
                **keys,
                image_key=image,
                duplicate_of=self._duplicate_of(entry, row, at),
            )
            one = _with(entry, uri=uri, kind=row["kind"], frame=row["frame"], series=keys["series_key"], slice=about)
            if (row["file_id"], row["frame"]) in self._repeated:
                self._first[row["file_id"], row["frame"]] = row_id, one
            row_id += 1
            yield one

    def _duplicate_of(self, entry: Entry, row: dict[str, Any], at: dict[str, Any]) -> int | None:
        first = self._first.get((at["same_as_file"], at["same_as_frame"])) if at["same_as_file"] is not None else None
        if first is None:
            return None
        try:
            digests = [pixel_digest(self._reader.read(_as_row(one))) for one in (first[1], entry)]
        except ReadError:
            return None  # scoring it says what is wrong
        if digests[0] != digests[1]:
            self.conflicts += 1
            return None
        self.duplicates += 1
        return first[0]


def _with(entry: Entry, **values: Any) -> Entry:
    from dataclasses import replace

    return replace(entry, **values)


def _as_row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("uri", "size", "container", "offset", "packed_size", "packing", "frame")}


def _write_private(folder: RunFolder, grouped: Grouped, pseudonyms: Pseudonyms, *, private: bool) -> None:
    """What is known of the series, for `btc-ray group`; and, in a private run, which key stands for what."""
    write_private(folder.series_known, _parquet(described(grouped, pseudonyms)))
    crosswalk = [
        {
            "series": name,
            "exam": grouped.people.exam[name],
            "patient": grouped.people.patient[name],
            **keys_of(name, grouped, pseudonyms),
        }
        for name in grouped.facts
    ]
    write_private(folder.private / "crosswalk.parquet", _parquet(pa.Table.from_pylist(crosswalk)))


def _parquet(table: pa.Table) -> bytes:
    from btc_ray.storage.tables import to_bytes

    return to_bytes(table)
