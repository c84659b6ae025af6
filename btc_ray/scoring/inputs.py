"""What a run is to score or to crop: the inputs listed, files that may be DICOM or NIfTI looked into, series chosen, the manifest written.

Rows are in the order of the listing; a file of several frames is that many rows. Memory: the index of the medical files.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.archive.entries import SNIFF, Entry, NoImagesError, Skipped
from btc_ray.archive.listing import list_inputs, units_of
from btc_ray.archive.manifest import ManifestSummary, write_entries
from btc_ray.archive.parallel import Spread, write_units
from btc_ray.archive.reader import ByteReader
from btc_ray.progress import say
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.known import KNOWN_SCHEMA, Known
from btc_ray.settings import Crop, Score
from btc_ray.storage import Place
from btc_ray.storage.tables import table_file, to_bytes
from btc_ray.studies.candidates import index_candidates
from btc_ray.studies.grouping import Grouped
from btc_ray.studies.indexing import studies_are_read
from btc_ray.studies.keys import write_private
from btc_ray.studies.overview import Studies, overview, write_crosswalk
from btc_ray.studies.rows import Rows
from btc_ray.studies.selection import wanted
from btc_ray.studies.tables import described
from btc_ray.studies.told import told

PLACES = 1000  # folders and archives of one input that are listed apart, where it has so many


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the inputs came to; `studies` is what run.json says of series, empty where there are none."""

    summary: ManifestSummary
    private: bool = False
    studies: dict[str, Any] = field(default_factory=dict)


def list_images(
    settings: Score | Crop, folder: RunFolder, *, known: Known | None = None, cpus: int, spread: Spread | None = None
) -> Found:
    """Write the manifest of a run and, where there are series, what is known of them into `folder.private`. What `known` knows stands in
    `folder.known` instead, and is not looked into. `spread`: what lists one folder on workers; where something is known, or there is
    more than one input, it is listed here.

    Raises as `list_inputs` and `write_entries` do, and NoImagesError with the counts by reason where no series was selected.
    """
    asked = wanted(settings.series)
    listed, skipped = folder.listed, folder.listed_skipped
    options = folder.place.options
    how: dict[str, Any] = {
        "options": options,
        "follow_links": settings.follow_links,
        "sniff": settings.sniff == "auto" and studies_are_read(),
    }
    met = None
    if (
        spread is not None
        and known is None
        and len(settings.input) == 1
        and (units := units_of(*settings.input, **how, places=PLACES))
    ):
        met = write_units(units, listed, skipped=skipped, work=folder.listed_apart, spread=spread)
    if met is None:
        listing = list_inputs(settings.input, **how)
        if known is None:
            met = write_entries(listing, listed, skipped=skipped)
        else:
            with table_file(folder.listed_known, KNOWN_SCHEMA) as write:
                met = write_entries(known.new(listing, options=options, known=write), listed, skipped=skipped)
            known.tell()
    candidates = met.sniffed
    kept = folder.private / "index"
    index = index_candidates(_to_sniff(listed), candidates, cpus=cpus, options=options, kept=kept) if candidates else None
    key = Place(settings.pseudonym_key, options) if settings.pseudonym_key else None
    privacy = "on" if settings.privacy == "auto" and known is not None and known.private else settings.privacy
    folder.check()  # from here on what all drivers share is written
    studies = overview(index, asked, privacy=privacy, key_file=key, private_folder=folder.private)
    if studies.private:
        folder.keep_private()
    else:
        kept.remove()
    rows = Rows(studies, ByteReader(options), whole=known is None)
    folder.check()
    if candidates or studies.private:
        entries = chain(rows.of(_entries(listed)), _skipped(skipped))
        found = write_entries(entries, folder.manifest, skipped=folder.skipped, seen=lambda found: folder.check()).summary()
    else:
        _take_over(folder)
        found = met.summary()
    if known is not None:
        folder.listed_known.move(folder.known)
    if found.rows == rows.lost and (known is None or not known.files):
        raise _nothing(studies.grouped, found)
    listed.remove()
    skipped.remove()
    return Found(summary=found, private=studies.private, studies=_write_studies(studies, rows, folder))


def _take_over(folder: RunFolder) -> None:
    """What was listed is the manifest: where there are pictures alone nothing in it changes."""
    folder.manifest.remove()
    if folder.place.is_local:
        folder.listed.move(folder.manifest)
    for part in folder.listed.files(".parquet"):
        folder.check()
        part.move(folder.manifest / part.name)
    folder.listed_skipped.move(folder.skipped)


def given_images(entries: Iterable[Entry], folder: RunFolder) -> Found:
    """Write the manifest of a run from entries that were listed and chosen before; it is private where one of them is."""
    listed = list(entries)
    private = any(entry.slice is not None and entry.slice.shown_uri is not None for entry in listed)
    if private:
        folder.keep_private()
    return Found(summary=write_entries(iter(listed), folder.manifest, skipped=folder.skipped).summary(), private=private)


def _write_studies(studies: Studies, rows: Rows, folder: RunFolder) -> dict[str, Any]:
    """Write what is known of the series, for `btc-ray group`, and which key stands for what; what run.json says of them."""
    if studies.grouped is None:
        return {}
    assert studies.pseudonyms is not None
    write_private(folder.series_known, to_bytes(described(studies.grouped, studies.pseudonyms)))
    write_crosswalk(studies, folder.private / "crosswalk.parquet")
    counts = studies.counts() | {"duplicates": rows.duplicates, "same_uid_other_pixels": rows.conflicts}
    for sentence in told(counts):
        say(sentence)
    return counts


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


def _to_sniff(listed: Place) -> Iterator[dict[str, Any]]:
    for part in listed.files(".parquet"):
        table = part.read_table()
        yield from table.filter(pc.equal(table["kind"], SNIFF)).to_pylist()


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
