"""A table of labels, made by people, laid upon slices: by path, UID, key or BIDS name; the most specific that matches wins."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from btc_ray.errors import UserError

# From the most specific to the least; columns of one level name the same thing.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("path",),
    ("sop_uid", "image_key"),
    ("series_uid", "series_key"),
    ("study_uid", "exam_key"),
    ("sub+ses",),
    ("patient_id", "patient_key", "sub"),
)
NAMES = (
    "path",
    "sop_uid",
    "image_key",
    "series_uid",
    "series_key",
    "study_uid",
    "exam_key",
    "sub",
    "ses",
    "patient_id",
    "patient_key",
)


class LabelsError(UserError):
    """A table of labels that cannot be used. Its text counts, and quotes no value of the table."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What a slice can be named by. `path` is the file's, below the folder that was given; `bids` has sub and ses."""

    path: str
    slice_index: int | None = None
    identifiers: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a row of the table says. `number` is its place in the table, from 0."""

    number: int
    label: str
    split: str | None = None
    first_slice: int | None = None
    last_slice: int | None = None

    def covers(self, slice_index: int | None) -> bool:
        """Whether a slice is in its range; both ends count."""
        if self.first_slice is None and self.last_slice is None:
            return True
        if slice_index is None:
            return False
        low = slice_index if self.first_slice is None else self.first_slice
        high = slice_index if self.last_slice is None else self.last_slice
        return low <= slice_index <= high


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Attributes:
    labels: of each slice, in the order given; None where none names it.
    unmatched: numbers of the table's rows that name no slice.
    """

    labels: list[Label | None]
    unmatched: list[int]


class Labels:
    """A table of labels, ready to be asked. Raises LabelsError for a table that names nothing or has no labels."""

    def __init__(self, table: pa.Table) -> None:
        known = [name for name in NAMES if name in table.column_names]
        if "label" not in table.column_names or not known:
            raise LabelsError(f"the labels need a column `label` and at least one of {', '.join(NAMES)}.")
        self._by: dict[tuple[str, str], list[Label]] = defaultdict(list)
        self.rows = table.num_rows
        bad = 0
        for number, row in enumerate(table.to_pylist()):
            named = _named(row)
            label = _text(row.get("label"))
            if named is None or label is None:
                bad += 1
                continue
            name, value = named
            try:
                ends = {end: _whole(row.get(end)) for end in ("first_slice", "last_slice")}
            except ValueError:
                bad += 1
                continue
            self._by[name, value].append(Label(number=number, label=label, split=_text(row.get("split")), **ends))
        if bad:
            raise LabelsError(
                f"{bad:,} of {self.rows:,} rows of the labels have no label, name nothing, or have slices that are no numbers."
            )

    def match(self, slices: Sequence[Slice]) -> Matched:
        """The label of each slice. Raises LabelsError where rows of one level say different things of one slice, with their counts."""
        found: list[Label | None] = []
        used: set[int] = set()
        contradicted = 0
        for one in slices:
            label, others = self._label_of(one)
            contradicted += others
            used.update(() if label is None else (label.number,))
            found.append(label)
        if contradicted:
            raise LabelsError(f"the labels contradict each other for {contradicted:,} of {len(found):,} slices; mend the table.")
        return Matched(labels=found, unmatched=sorted(set(range(self.rows)) - used - self._repeats(used)))

    def _label_of(self, one: Slice) -> tuple[Label | None, bool]:
        for keys in _asked(one):
            here = [label for key in keys for label in self._by.get(key, ()) if label.covers(one.slice_index)]
            if here:
                return here[0], len({(label.label, label.split) for label in here}) > 1
        return None, False

    def _repeats(self, used: set[int]) -> set[int]:
        """Rows that say again what a used row says."""
        return {
            label.number
            for labels in self._by.values()
            if any(label.number in used for label in labels)
            for label in labels
            if any(other.number in used and other == _as(label, other.number) for other in labels)
        }


def unlabelled(series: Sequence[str], matched: Matched) -> list[str]:
    """The series (one name a slice, in the order of the slices) of which no slice has a label, each once."""
    some = {name for name, label in zip(series, matched.labels, strict=True) if label is not None}
    return list(dict.fromkeys(name for name in series if name not in some))


def _as(label: Label, number: int) -> Label:
    return Label(number=number, label=label.label, split=label.split, first_slice=label.first_slice, last_slice=label.last_slice)


def _asked(one: Slice) -> Iterator[list[tuple[str, str]]]:
    """The keys of a slice, level after level. A path is named whole, by its last parts, or by a folder above it; the longest first."""
    for path in _paths(one.path):
        yield [("path", path)]
    values = dict(one.identifiers)
    if values.get("sub") and values.get("ses"):
        values["sub+ses"] = f"{values['sub']}+{values['ses']}"
    for level in LEVELS[1:]:
        yield [(name, value) for name in level if (value := (values.get(name) or "").strip())]


def _paths(path: str) -> Iterator[str]:
    plain = PurePosixPath(path.replace("\\", "/").replace("::", "/"))
    parts = plain.parts
    yield from ("/".join(parts[start:]).replace("//", "/") for start in range(len(parts)))
    for parent in plain.parents:
        if parent.parts:
            yield str(parent)


def _named(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The most specific name of a row and its value."""
    values = {name: _text(row.get(name)) for name in NAMES}
    for name in ("sub", "ses"):
        if values[name]:
            values[name] = str(values[name]).removeprefix(f"{name}-")
    if values["path"]:
        return "path", str(PurePosixPath(str(values["path"]).replace("\\", "/").replace("::", "/")))
    if values["sub"] and values["ses"]:
        values["sub+ses"] = f"{values['sub']}+{values['ses']}"
    for level in LEVELS[1:]:
        for name in level:
            if value := values.get(name):
                return name, value
    return None


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _whole(value: Any) -> int | None:
    if (text := _text(value)) is None:
        return None
    number = float(text)
    if number != int(number):
        raise ValueError
    return int(number)
