"""Labelled images of an archive of DICOM or NIfTI: its series chosen as for scoring, and a table of labels laid upon their slices.

Nothing is left out silently: labels that are of no image, series without a label, and labelled slices that are not used are counted aloud,
by row number, key and reason; no value of a header or of the table is said.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.entries import SNIFF, Entry, NoImagesError, Skipped
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.reader import ByteReader
from btc_ray.archive.tables import TableError, table_parts, table_rows
from btc_ray.dataset.table import SCHEMA, SPLIT_WORDS, LabelledDataError, located
from btc_ray.progress import say
from btc_ray.settings import Labelled
from btc_ray.storage import Place
from btc_ray.studies.candidates import index_candidates
from btc_ray.studies.keys import Pseudonyms
from btc_ray.studies.labels import NAMES, Label, Labels, Matched, Slice, unlabelled
from btc_ray.studies.masks import LEAST_AREA, lesion_areas
from btc_ray.studies.nifti import bids_names
from btc_ray.studies.overview import Studies, overview
from btc_ray.studies.rows import NOT_SELECTED, Rows
from btc_ray.studies.selection import wanted
from btc_ray.studies.shown import MAY_BE_BURNED_IN
from btc_ray.studies.tables import keys_of
from btc_ray.studies.told import told

_LISTED = 10  # rows and keys that a sentence names
_NAMED = ["file_id", "frame", "uri", "kind", "sop_uid", "series_uid", "study_uid", "patient_id"]  # of the index
_FILE = ("uri", "size", "container", "offset", "packed_size", "packing", "problem_status", "problem")


@dataclass(frozen=True, kw_only=True)
class _Image:
    """A slice or a picture that may be labelled: its row, or why it has none; `at` is its file and frame in the index."""

    slice: Slice
    entry: Entry | None = None
    reason: str | None = None
    series: str | None = None
    at: tuple[int, int] | None = None


def read_archive(data: Place, settings: Labelled, *, cpus: int, private: Place) -> pa.Table:
    """The labelled slices and pictures of `data` as a table of SCHEMA, in the order of the listing; `group` is the patient's key.

    Args:
        settings: `labels`, which is not None, and what chooses slices and series.
        private: a folder for the key of pseudonyms, where neither a flag nor the environment names one.

    Raises LabelledDataError, LabelsError for labels that contradict each other, SelectionError, PseudonymKeyError.
    """
    assert settings.labels is not None
    asked, labels = wanted(settings.series), Labels(read_labels(data.at(settings.labels)))
    listed = _listed(data, settings)
    sniffed = [{"row_id": number, **_file(entry)} for number, entry in enumerate(listed) if entry.kind == SNIFF]
    index = index_candidates(sniffed, len(sniffed), cpus=cpus, options=data.options) if sniffed else None
    key = Place(settings.pseudonym_key, data.options) if settings.pseudonym_key else None
    studies = overview(index, asked, privacy=settings.privacy, key_file=key, private_folder=private)
    for sentence in told(studies.counts()):
        say(sentence)
    reader = ByteReader(data.options)
    images = list(_images(listed, studies, data, reader))
    matched = labels.match([image.slice for image in images])
    _say_unmatched(images, matched, studies)
    areas = lesion_areas(studies, listed, reader) if settings.slices == "masked" else {}
    rows = list(_rows(images, matched, settings.slices, areas, studies))
    if not rows:
        raise LabelledDataError(
            f"--labels names none of the {len(images):,} images of --data that can be used: a path is relative to --data; what its rows "
            "are for, and which series were taken, is said above."
        )
    return pa.Table.from_pylist([{"row_id": number, **row} for number, row in enumerate(rows)], schema=SCHEMA)


def read_labels(place: Place) -> pa.Table:
    """The cells of the table, as texts. Raises LabelledDataError."""
    wanted = (*NAMES, "split", "first_slice", "last_slice")
    try:
        parts = table_parts(place.uri, place.options) or [(place.uri, {})]
        rows = [
            row for uri, _ in parts for _, row in table_rows(uri, place.options, needed=("label",), wanted=wanted, strict=True)
        ]
    except TableError as error:
        raise LabelledDataError(f"--labels {error}.") from error
    for number, row in enumerate(rows, start=1):
        if (split := row.get("split")) is not None:
            if split.strip().casefold() not in SPLIT_WORDS:
                raise LabelledDataError(f"--labels: row {number} has a split that is none of train, validation and test.")
            row["split"] = SPLIT_WORDS[split.strip().casefold()]
    present = [name for name in ("label", *wanted) if any(name in row for row in rows)]
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in present})


def _listed(data: Place, settings: Labelled) -> list[Entry]:
    left_out: Counter[str] = Counter()
    listed: list[Entry] = []
    try:
        found = list_inputs([data.uri], options=data.options, follow_links=settings.follow_links, sniff=settings.sniff == "auto")
        for item in found:
            if isinstance(item, Entry):
                listed.append(item)
            else:
                left_out[item.reason] += 1
    except NoImagesError as error:
        raise LabelledDataError(f"--data holds no image (found: {error.found}).") from error
    for reason, count in left_out.most_common():
        say(f"left out: {count:,} × {reason}")
    return listed


def _file(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FILE}


def _images(listed: Sequence[Entry], studies: Studies, data: Place, reader: ByteReader) -> Iterator[_Image]:
    """Every slice and picture: those that have rows, then those of series that were not selected."""
    root = storage.absolute(data.uri).rstrip("/")
    known = dict(_slices(studies, root))
    rows = Rows(studies, reader)
    for item in rows.of(iter(enumerate(listed))):
        if isinstance(item, Skipped):
            continue
        file = item.uri if item.frame is None else names.file_of(item.uri)
        found = known.pop((file, item.frame or 0), None)
        if found is None or item.problem_status is not None:  # a picture, or a file that cannot be read
            yield _Image(slice=Slice(path=_below(root, file)), entry=item)
        elif item.slice is not None and item.slice.duplicate_of is not None:
            yield _Image(slice=found.slice, reason="the same instance once more", series=found.series)
        else:
            yield _Image(slice=found.slice, entry=item, series=found.series, at=found.at)
    yield from known.values()


def _slices(studies: Studies, root: str) -> Iterator[tuple[tuple[str, int], _Image]]:
    """File and frame of each slice that is known, with what labels may call it, and why it would not be used."""
    grouped, index, pseudonyms = studies.grouped, studies.index, studies.pseudonyms
    if grouped is None or index is None or pseudonyms is None:
        return
    keys = {series: keys_of(series, grouped, pseudonyms) for series in grouped.facts}
    named = index.filter(pc.is_null(index["problem"])).select(_NAMED)
    about = {(row["file_id"], row["frame"]): row for row in named.to_pylist()}
    for frame in grouped.frames.to_pylist():
        at = frame["file_id"], frame["frame"]
        row, series = about[at], frame["series"]
        one = Slice(
            path=_below(root, row["uri"]),
            slice_index=frame["slice_index"],
            identifiers=_identifiers(row, keys[series], pseudonyms),
        )
        chosen = grouped.selected[series]
        reason = "shows nothing but air" if chosen.selected else f"{NOT_SELECTED}{chosen.reason}"
        yield (row["uri"], row["frame"]), _Image(slice=one, reason=reason, series=series, at=at)


def _identifiers(row: Mapping[str, Any], keys: Mapping[str, str], pseudonyms: Pseudonyms) -> dict[str, str | None]:
    own = {**keys, "image_key": pseudonyms.key("image", row["sop_uid"] or row["uri"])}
    if row["kind"] == "nifti":
        bids = bids_names(row["uri"])
        return own | {name: bids.get(name) for name in ("sub", "ses")}
    return own | {name: row[name] for name in ("sop_uid", "series_uid", "study_uid", "patient_id")}


def _below(root: str, uri: str) -> str:
    """A path as labels write it: relative to --data, a member of an archive as if it were a folder."""
    return uri.removeprefix(root).lstrip("/:") or names.last_name(uri)


def _rows(
    images: Sequence[_Image], matched: Matched, slices: str, areas: Mapping[tuple[int, int], float], studies: Studies
) -> Iterator[dict[str, Any]]:
    """The rows of labelled images; says which labels are weak, and counts what is not used by reason."""
    count = Counter(label.number for label in matched.labels if label is not None)
    lengths = Counter(image.series or "" for image in images)
    left_out: Counter[str] = Counter()
    weak: set[int] = set()
    hidden = _hidden(studies)
    for image, label in zip(images, matched.labels, strict=True):
        if label is None:
            continue
        if image.entry is None:
            left_out[image.reason or ""] += 1
            continue
        if label.first_slice is None and label.last_slice is None and count[label.number] > 1:  # it names more than this slice
            if (reason := _not_asked(image, slices, lengths[image.series or ""], areas)) is not None:
                left_out[reason] += 1
                continue
            weak.add(label.number)
        yield _row(image.entry, label, hidden)
    for reason, number in left_out.most_common():
        say(f"left out: {number:,} labelled slices × {reason}")
    if weak and slices == "all":
        say(
            f"Warning: labels that are given to every slice of what they name, also to slices that show nothing of it: {len(weak):,}; "
            "--slices middle or masked takes fewer, first_slice and last_slice in --labels certain ones."
        )


def _not_asked(image: _Image, slices: str, length: int, areas: Mapping[tuple[int, int], float]) -> str | None:
    """Why --slices leaves a slice out, None where it takes it."""
    if slices == "middle" and image.slice.slice_index is not None:
        third = length // 3
        return None if third <= image.slice.slice_index < length - third else "not of the middle third (--slices middle)"
    if slices == "masked" and (image.at is None or areas.get(image.at, 0.0) < LEAST_AREA):
        return f"less than {LEAST_AREA:g} mm² of a mask (--slices masked)"
    return None


def _row(entry: Entry, label: Label, hidden: Collection[str]) -> dict[str, Any]:
    about = entry.slice
    shown = None if about is None else about.shown_uri
    known = {} if about is None else {name: getattr(about, name) for name in about.__dataclass_fields__}
    return {
        **located(entry),
        **known,
        "uri": shown or entry.uri,
        "read_from": entry.uri if shown else None,
        "label": label.label,
        "split": label.split,
        "group": known.get("patient_key"),
        "hidden": None if about is None or about.series_key is None else about.series_key in hidden,
    }


def _hidden(studies: Studies) -> frozenset[str]:
    """The keys of series into which a name may be burned."""
    grouped, pseudonyms = studies.grouped, studies.pseudonyms
    if grouped is None or pseudonyms is None:
        return frozenset()
    facts = grouped.facts.items()
    return frozenset(pseudonyms.key("series", name) for name, one in facts if one.burned_in in MAY_BE_BURNED_IN)


def _say_unmatched(images: Sequence[_Image], matched: Matched, studies: Studies) -> None:
    """Rows of the labels that name nothing, selected series without a label, and series of which nobody names the patient."""
    if matched.unmatched:
        rows = [f"{number + 1:,}" for number in matched.unmatched]
        say(f"Rows of --labels that label no image of --data: {len(rows):,} ({_some(rows)}).")
    grouped, pseudonyms = studies.grouped, studies.pseudonyms
    if grouped is None or pseudonyms is None:
        return
    placed = [(image, label) for image, label in zip(images, matched.labels, strict=True) if image.series is not None]
    of_series = Matched(labels=[label for _, label in placed], unmatched=[])
    without = [
        pseudonyms.key("series", name)
        for name in unlabelled([str(image.series) for image, _ in placed], of_series)
        if grouped.selected[name].selected
    ]
    if without:
        say(f"Selected series without a label: {len(without):,} ({_some(without)}).")
    nameless = sum(value.startswith("exam\0") for value in grouped.people.patient.values())
    if nameless:
        say(
            f"Series without an identifier of a patient that can be used: {nameless:,}; each of their exams counts as one patient."
        )


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED:,} more" if len(found) > _LISTED else "")
