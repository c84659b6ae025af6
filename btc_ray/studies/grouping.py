"""An index → its series: each with its facts, whose it is, and whether it is scored; and a row for every frame, in order.

Memory holds the index, which is an Arrow table, and one series' rows as Python records.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.images.formats.orientation import PLANES
from btc_ray.studies.facts import SeriesFacts, facts_of
from btc_ray.studies.keys import Identity, People, who
from btc_ray.studies.selection import Selected, Wanted, select
from btc_ray.studies.vocabulary import SECONDARY_CAPTURES

FRAMES = pa.schema(
    [
        pa.field("file_id", pa.int64(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("series", pa.dictionary(pa.int32(), pa.string()), nullable=False),  # its value, not yet a key
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("empty", pa.bool_(), nullable=False),  # it shows nothing, and is no row
        pa.field("slice_index", pa.int32()),
        pa.field("stack", pa.int32()),
        pa.field("position_mm", pa.float32()),
        pa.field("plane", pa.dictionary(pa.int32(), pa.string())),
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


def group(index: pa.Table, wanted: Wanted, *, usable: np.ndarray | None = None) -> Grouped:
    """Group an index and select from it. `usable` (bool, a row of the index each): neither of a DICOMDIR nor with a problem; None: all."""
    facts: dict[str, SeriesFacts] = {}
    identities = []
    frames = _Frames(index)
    for series, places, rows in _each_series(index, usable):
        facts[series] = facts_of(rows)
        identities.append(_identity(series, rows))
        frames.add(series, places, rows, facts[series])
    people = who(identities)
    studies: dict[str, dict[str, SeriesFacts]] = defaultdict(dict)
    for series, exam in people.exam.items():
        studies[exam][series] = facts[series]
    selected: dict[str, Selected] = {}
    for study in studies.values():
        selected |= select(study, wanted)
    return Grouped(facts=facts, selected=selected, people=people, frames=frames.table(selected, usable))


def _each_series(index: pa.Table, usable: np.ndarray | None) -> Iterator[tuple[str, np.ndarray, list[dict[str, Any]]]]:
    """Value, places in the index (int64) and rows of each series, in the order in which they are met first."""
    values = _values(index, usable).dictionary_encode()
    codes = np.asarray(values.indices.fill_null(-1))
    order = np.argsort(codes, kind="stable")
    if usable is not None:
        order = order[usable[order]]
    bounds = np.flatnonzero(np.concatenate([[True], np.diff(codes[order]) != 0, [True]])) if len(order) else np.zeros(1, int)
    for start, end in pairwise(bounds):
        places = order[start:end]
        yield values[int(places[0])].as_py(), places, index.take(pa.array(places)).to_pylist()


def _values(index: pa.Table, usable: np.ndarray | None) -> pa.Array:
    """The series UID, else the file, at least of usable rows. Screens that were saved into a series of slices are a series of their own."""
    values = index["series_uid"].combine_chunks()
    nameless = np.asarray(values.is_null())
    if (nameless if usable is None else nameless & usable).any():
        values = pc.coalesce(values.cast(pa.string()), pc.binary_join_element_wise("file\0", index["uri"].combine_chunks(), ""))
    captured = pc.or_kleene(
        _by_value(index["sop_class"], lambda texts: pc.starts_with(texts, SECONDARY_CAPTURES)),
        _by_value(index["image_type"], lambda texts: pc.match_substring_regex(texts, "SCREEN ?SAVE|SCREEN CAPTURE")),
    )
    if not pc.any(captured).as_py():
        return values
    values = values.cast(pa.string())
    return pc.if_else(pc.fill_null(captured, False), pc.binary_join_element_wise(values, "capture", "\0"), values)


def _by_value(column: pa.ChunkedArray, test: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """What `test` says of each text of a column, asked once for those of a dictionary."""
    array = column.combine_chunks()
    return test(array.dictionary).take(array.indices) if isinstance(array, pa.DictionaryArray) else test(array)


def _identity(series: str, rows: list[dict[str, Any]]) -> Identity:
    names = ("patient_id", "issuer", "birth_date", "sex", "study_uid", "study_date")
    return Identity(series=series, **{name: next((row[name] for row in rows if row[name]), None) for name in names})


class _Frames:
    """The table of frames while it grows, series by series, in the order of the index."""

    def __init__(self, index: pa.Table) -> None:
        count = len(index)
        self._index = index.select(["file_id", "frame"])
        self._names: list[str] = []
        self._series, self._stack, self._slice = (np.full(count, -1, np.int32) for _ in range(3))
        self._position, self._oblique = (np.full(count, np.nan, np.float32) for _ in range(2))
        self._plane = np.full(count, -1, np.int8)
        self._file, self._frame = np.full(count, -1, np.int64), np.full(count, -1, np.int32)  # that it is the same as
        self._empty = np.zeros(count, bool)

    def add(self, series: str, places: np.ndarray, rows: list[dict[str, Any]], facts: SeriesFacts) -> None:
        """A series of `rows` at `places`."""
        order = facts.arrangement
        self._series[places] = len(self._names)
        self._names.append(series)
        self._slice[places], self._stack[places] = order.slice_index, order.stack
        self._position[places] = [np.nan if position is None else position for position in order.position_mm]
        self._oblique[places] = [np.nan if angle is None else angle for angle in order.oblique_deg]
        self._plane[places] = [-1 if plane is None else PLANES.index(plane) for plane in order.plane]
        self._empty[places] = [bool(row["empty"]) for row in rows]
        self._file[places] = [-1 if at is None else rows[at]["file_id"] for at in order.duplicate_of]
        self._frame[places] = [-1 if at is None else rows[at]["frame"] for at in order.duplicate_of]

    def table(self, selected: dict[str, Selected], usable: np.ndarray | None) -> pa.Table:
        """As FRAMES, of the usable rows."""
        chosen = np.array([selected[name].selected for name in self._names], bool)
        columns = {
            "file_id": self._index["file_id"],
            "frame": self._index["frame"],
            "series": _coded(self._series, self._names),
            "selected": chosen[self._series] if len(chosen) else np.zeros(len(self._series), bool),
            "empty": self._empty,
            "slice_index": _known(self._slice),
            "stack": _known(self._stack),
            "position_mm": pa.array(self._position, from_pandas=True),
            "plane": _coded(self._plane, list(PLANES)),
            "oblique_deg": pa.array(self._oblique, from_pandas=True),
            "same_as_file": _known(self._file),
            "same_as_frame": _known(self._frame),
        }
        table = pa.table(columns, schema=FRAMES)
        return (table if usable is None or usable.all() else table.filter(pa.array(usable))).combine_chunks()


def _known(numbers: np.ndarray) -> pa.Array:
    """Null where a number is negative."""
    return pa.array(numbers, mask=numbers < 0)


def _coded(codes: np.ndarray, texts: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(texts, pa.string()))
