"""What was listed and what is known of it → the rows of a manifest: a file of several frames is that many, in the order of the listing.

Every listed file is a row, or is skipped with its reason.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from btc_ray.archive import names
from btc_ray.archive.entries import SNIFF, Entry, ReadError, Skipped, SliceOf
from btc_ray.archive.reader import ByteReader
from btc_ray.studies.dicomdir import MISSING, missing, named_images
from btc_ray.studies.indexing import pixel_digest
from btc_ray.studies.overview import STUDIES, Studies
from btc_ray.studies.tables import keys_of

_PLACED = ("slice_index", "position_mm", "plane", "oblique_deg")
NOT_SELECTED = "series not selected: "  # and why
ALL_EMPTY = "a volume of which no slice shows more than air"


class Rows:
    """The rows of an archive.

    Counted while they are made: `duplicates`, slices that repeat an instance; `conflicts`, slices that have the SOPInstanceUID of another
    and other pixels; `lost`, images that only a DICOMDIR names.
    """

    def __init__(self, studies: Studies, reader: ByteReader, *, whole: bool = True) -> None:
        """`whole`: every file of the inputs is in the index, so that what a DICOMDIR names and is not there is lost."""
        self._whole = whole
        self._index, self._grouped, self._pseudonyms = studies.index, studies.grouped, studies.pseudonyms
        self._private, self._reader = studies.private, reader
        self.duplicates = self.conflicts = self.lost = 0
        self._keys: dict[str, dict[str, str]] = {}  # of a series
        self._first: dict[tuple[int, int], tuple[int, Entry]] = {}  # of files that others repeat
        if self._index is None:
            return
        self._files = np.asarray(self._index["file_id"])  # sorted: rows of the index are in the order of the listing
        if self._grouped is not None:
            frames = self._grouped.frames
            self._grouped_files = np.asarray(frames["file_id"])
            repeated = frames.filter(pc.is_valid(frames["same_as_file"]))
            self._repeated = set(zip(repeated["same_as_file"].to_pylist(), repeated["same_as_frame"].to_pylist(), strict=True))

    def of(self, listed: Iterator[tuple[int, Entry]]) -> Iterator[Entry | Skipped]:
        """Every row, and every listed file that is none. `listed` has each file with its `file_id` of the index."""
        row_id = 0
        for file_id, entry in listed:
            found = self._picture(entry) if entry.kind != SNIFF else self._file(file_id, entry, row_id)
            for item in found:
                row_id += isinstance(item, Entry)
                yield item

    def _picture(self, entry: Entry) -> Iterator[Entry]:
        yield replace(entry, kind=None, slice=self._shown(entry.uri, None, "image"))

    def _shown(self, uri: str, frame: int | None, kind: str, **known: Any) -> SliceOf | None:
        shown = self._pseudonyms.uri(uri, frame, kind=kind) if self._private and self._pseudonyms else None
        return SliceOf(shown_uri=shown, **known) if shown or known else None

    def _file(self, file_id: int, entry: Entry, row_id: int) -> Iterator[Entry | Skipped]:
        assert self._index is not None
        start, end = (int(np.searchsorted(self._files, file_id, side)) for side in ("left", "right"))
        rows = self._index.slice(start, end - start).to_pylist()
        first = rows[0]
        kind, name = first["kind"], names.last_name(entry.uri)
        if kind == "picture":
            yield from self._picture(entry)
        elif kind == "other":
            yield Skipped(uri=entry.uri, reason=names.skip_file(name) or "not an image (no known extension)")
        elif kind == "dicomdir":
            yield Skipped(uri=entry.uri, reason="an index of DICOM files (DICOMDIR); the files are found by themselves")
            yield from self._missing(entry)
        elif first["problem"]:
            shown = kind if kind in STUDIES else "file"
            known = {"problem_status": first["problem_status"] or "unreadable", "problem": first["problem"]}
            yield replace(entry, **known, kind=kind if kind in STUDIES else None, slice=self._shown(entry.uri, None, shown))
        else:
            yield from self._frames(entry, rows, row_id)

    def _missing(self, entry: Entry) -> Iterator[Entry]:
        """The images that a DICOMDIR names and that were not listed, where all was."""
        if not self._whole:
            return
        assert self._index is not None
        folder = entry.uri.removesuffix(names.last_name(entry.uri).rpartition("::")[2])
        try:
            named = named_images(self._reader.read(_as_row(entry)))
        except ReadError:
            return
        uris = self._index["uri"]
        there = uris.filter(pc.starts_with(uris, folder)).to_pylist()
        for path in missing(named, [uri.removeprefix(folder) for uri in there]):
            uri = f"{folder}{path}"
            shown = self._shown(uri, None, "dicom")
            self.lost += 1
            yield Entry(uri=uri, problem_status="failed", problem=MISSING, kind="dicom", slice=shown)

    def _frames(self, entry: Entry, rows: list[dict[str, Any]], row_id: int) -> Iterator[Entry | Skipped]:
        assert self._grouped is not None
        assert self._pseudonyms is not None
        known = self._grouped.frames.slice(int(np.searchsorted(self._grouped_files, rows[0]["file_id"])), len(rows)).to_pylist()
        assert [(at["file_id"], at["frame"]) for at in known] == [(row["file_id"], row["frame"]) for row in rows]
        if not known[0]["selected"]:
            yield Skipped(uri=entry.uri, reason=f"{NOT_SELECTED}{self._grouped.selected[known[0]['series']].reason}")
            return
        if all(at["empty"] for at in known):
            yield Skipped(uri=entry.uri, reason=ALL_EMPTY)
        series = known[0]["series"]
        if series not in self._keys:
            self._keys[series] = keys_of(series, self._grouped, self._pseudonyms)
        keys = self._keys[series]
        for row, at in zip(rows, known, strict=True):
            if at["empty"]:
                continue
            several = row["frames"] > 1
            uri = names.frame_uri(entry.uri, row["kind"], row["frame"]) if several else entry.uri
            image = self._pseudonyms.key("image", row["sop_uid"] or entry.uri)
            about = self._shown(
                entry.uri,
                row["frame"] if several else None,
                row["kind"],
                **{name: at[name] for name in _PLACED},
                **keys,
                image_key=image,
                duplicate_of=self._duplicate_of(entry, row, at),
            )
            one = replace(entry, uri=uri, kind=row["kind"], frame=row["frame"], series=keys["series_key"], slice=about)
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


def _as_row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("uri", "size", "container", "offset", "packed_size", "packing", "frame")}
