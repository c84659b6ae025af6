"""An index → its series: each with its facts, whose it is, and whether it is scored; and a row for every frame, in order.

Memory holds the index, which is an Arrow table, and one series' rows as Python records.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.studies.facts import SeriesFacts, facts_of
from btc_ray.studies.keys import Identity, People, who
from btc_ray.studies.selection import Selected, Wanted, select
from btc_ray.studies.vocabulary import SECONDARY_CAPTURES

FRAMES = pa.schema(
    [
        pa.field("file_id", pa.int64(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("series", pa.string(), nullable=False),  # its value, not yet a key
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("empty", pa.bool_(), nullable=False),  # it shows nothing, and is no row
        pa.field("slice_index", pa.int32()),
        pa.field("stack", pa.int32()),
        pa.field("position_mm", pa.float32()),
        pa.field("plane", pa.string()),
        pa.field("oblique_deg", pa.float32()),
        pa.field("same_as_file", pa.int64()),  # an earlier file of the same SOPInstanceUID, and its frame
        pa.field("same_as_frame", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """The series of an archive, by value: the SeriesInstanceUID, or the file where there is none."""

    facts: dict[str, SeriesFacts]
    selected: dict[str, Selected]
    people: People
    frames: pa.Table  # FRAMES, in the order of the index

    @property
    def unselected(self) -> dict[str, int]:
        """How many series are not scored, by reason."""
        return dict(Counter(one.reason or "" for one in self.selected.values() if not one.selected).most_common())

    @property
    def empty(self) -> int:
        """How many slices of selected series show nothing."""
        return int(pc.sum(pc.and_(self.frames["selected"], self.frames["empty"])).as_py() or 0)

    @property
    def exams_without_series(self) -> tuple[int, int]:
        """How many exams have no selected series, and how many exams there are."""
        exams: dict[str, bool] = defaultdict(bool)
        for series, one in self.selected.items():
            exams[self.people.exam[series]] |= one.selected
        return sum(not any_selected for any_selected in exams.values()), len(exams)


def group(index: pa.Table, wanted: Wanted) -> Grouped:
    """Group an index (a table of INDEX without DICOMDIRs and without files that have a problem) and select from it."""
    facts: dict[str, SeriesFacts] = {}
    identities = []
    frames = []
    for series, places, rows in _each_series(index):
        facts[series] = facts_of(rows)
        identities.append(_identity(series, rows))
        frames.append((places, _frame_columns(series, rows, facts[series])))
    people = who(identities)
    studies: dict[str, dict[str, SeriesFacts]] = defaultdict(dict)
    for series, exam in people.exam.items():
        studies[exam][series] = facts[series]
    selected: dict[str, Selected] = {}
    for study in studies.values():
        selected |= select(study, wanted)
    return Grouped(facts=facts, selected=selected, people=people, frames=_in_order(frames, selected))


def _each_series(index: pa.Table) -> Iterator[tuple[str, np.ndarray, list[dict[str, Any]]]]:
    """Value, places in the index (int64) and rows of each series, in the order in which they are met first."""
    values = _values(index).dictionary_encode()
    codes = np.asarray(values.indices)
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.concatenate([[True], np.diff(codes[order]) != 0, [True]])) if len(order) else np.zeros(1, int)
    for first, last in pairwise(bounds):
        places = order[first:last]
        yield values.dictionary[int(codes[places[0]])].as_py(), places, index.take(pa.array(places)).to_pylist()


def _values(index: pa.Table) -> pa.Array:
    """The series UID, else the file. Screens that were saved into a series of slices are a series of their own."""
    values = pc.coalesce(index["series_uid"], pc.binary_join_element_wise("file\0", index["uri"], ""))
    captured = pc.or_kleene(
        pc.starts_with(index["sop_class"], SECONDARY_CAPTURES),
        pc.match_substring_regex(index["image_type"], "SCREEN ?SAVE|SCREEN CAPTURE"),
    )
    own = pc.binary_join_element_wise(values, "capture", "\0")
    return pc.if_else(pc.fill_null(captured, False), own, values).combine_chunks()


def _identity(series: str, rows: list[dict[str, Any]]) -> Identity:
    names = ("patient_id", "issuer", "birth_date", "sex", "study_uid", "study_date")
    return Identity(series=series, **{name: next((row[name] for row in rows if row[name]), None) for name in names})


def _frame_columns(series: str, rows: list[dict[str, Any]], facts: SeriesFacts) -> dict[str, list[Any]]:
    order = facts.arrangement
    return {
        "file_id": [row["file_id"] for row in rows],
        "frame": [row["frame"] for row in rows],
        "series": [series] * len(rows),
        "empty": [bool(row["empty"]) for row in rows],
        "slice_index": order.slice_index,
        "stack": order.stack,
        "position_mm": order.position_mm,
        "plane": order.plane,
        "oblique_deg": order.oblique_deg,
        "same_as_file": [None if at is None else rows[at]["file_id"] for at in order.duplicate_of],
        "same_as_frame": [None if at is None else rows[at]["frame"] for at in order.duplicate_of],
    }


def _in_order(frames: list[tuple[np.ndarray, dict[str, list[Any]]]], selected: dict[str, Selected]) -> pa.Table:
    if not frames:
        return FRAMES.empty_table()
    tables = [
        pa.table({"selected": [selected[columns["series"][0]].selected] * len(places), **columns})
        .select(FRAMES.names)
        .cast(FRAMES)
        for places, columns in frames
    ]
    places = np.concatenate([where for where, _ in frames])
    return pa.concat_tables(tables).take(pa.array(np.argsort(places, kind="stable"))).combine_chunks()
