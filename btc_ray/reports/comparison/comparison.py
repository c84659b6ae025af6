"""What changed between two scoring runs: their rows matched, then status, label, decision and probabilities side by side.

Rows are matched by `uri`. A uri that stands in a run several times is matched in order of row_id: its first occurrence with the first, its
second with the second. Where the runs share no uri at all (the archive was moved) `content_sha256` stands for it in the same way; rows
without one, of files that could not be read, then have no partner. Memory holds numbers for all rows, and texts of one column at a time.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from btc_ray.errors import UserError
from btc_ray.model.bundle import PREFIX, probability_columns
from btc_ray.reports.shared.tally import count, folders

SHOWN = 10  # changed labels, and folders
KEYS = ("uri", "content_sha256")
NOTHING = "none"  # a null in a cross table
_NEEDED = ("row_id", *KEYS, "status", "label", "confidence")
_BATCH = 65_536  # rows whose texts are held at once where a column is streamed

CrossTable = dict[str, dict[str, int]]  # in the first run → in the second → rows


class CompareError(UserError):
    """Runs that cannot be compared."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Absolute differences of one column; None where no row is ok in both runs."""

    mean: float | None
    largest: float | None


@dataclass(frozen=True, kw_only=True)
class ChangedLabel:
    """One row whose label changed. Of both runs: where the image was, label, confidence."""

    uri: tuple[str, str]
    label: tuple[str, str]
    confidence: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found. `status` and `decision` count all rows in both runs, everything after `ok_in_both` those ok in both.

    `decision` is None unless both runs have that column; `one_sided` names the columns that only one of them has. `surest` are the
    changed labels in which the less confident run is most confident. `folders` are those with the most changed labels, as the
    second run names them, of `folders_changed` in all.
    """

    matched_by: str
    rows: tuple[int, int]
    in_both: int
    only_in_first: int
    only_in_second: int
    status: CrossTable
    decision: CrossTable | None
    one_sided: tuple[str, ...]
    ok_in_both: int
    label: CrossTable
    labels_changed: int
    differences: dict[str, Difference]  # of `confidence` and every `prob_<class>` of both
    surest: tuple[ChangedLabel, ...]
    folders: dict[str, int]
    folders_changed: int


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Positions of matched rows in the first and the second table: int64 (N,) each."""

    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: np.ndarray) -> "_Pairs":
        return _Pairs(first=self.first[chosen], second=self.second[chosen])


def compare_runs(first: pads.Dataset, second: pads.Dataset) -> Comparison:
    """Compare the `scores` of two complete runs; only the columns named here are read, one after the other.

    Raises CompareError where a column is missing.
    """
    for scores in (first, second):
        if missing := [name for name in _NEEDED if name not in scores.schema.names]:
            raise CompareError(f"these are not the scores of a run: the column {missing[0]!r} is missing.")
    rows = (first.count_rows(), second.count_rows())
    matched_by, pairs = _matched(first, second)
    names, was, now = _coded(first, second, "status", pairs, known=["ok"])
    status = _cross_table(names, was, now)
    ok = pairs.where((was == names.index("ok")) & (now == names.index("ok")))
    columns, one_sided = _shared(first, second)
    classes = _classes(first, columns)
    labels, was, now = _coded(first, second, "label", ok, known=classes)
    changed = was != now
    relabelled = ok.where(changed)
    places = _folders(second, relabelled.second)
    return Comparison(
        matched_by=matched_by,
        rows=rows,
        in_both=len(pairs),
        only_in_first=rows[0] - len(pairs),
        only_in_second=rows[1] - len(pairs),
        status=status,
        decision=_cross_table(*_coded(first, second, "decision", pairs)) if "decision" in columns else None,
        one_sided=tuple(one_sided),
        ok_in_both=len(ok),
        label=_cross_table(labels, was, now, known=classes),
        labels_changed=len(relabelled),
        differences={name: _difference(first, second, name, ok) for name in columns if name != "decision"},
        surest=_surest(first, second, relabelled, labels, was[changed], now[changed]),
        folders=dict(sorted(places.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]),
        folders_changed=len(places),
    )


def changes(table: CrossTable) -> list[tuple[str, str, int]]:
    """(in the first run, in the second, rows) of what differs, the most frequent first."""
    found = [(was, now, rows) for was, line in table.items() for now, rows in line.items() if was != now and rows]
    return sorted(found, key=lambda change: (-change[2], change))


def _surest(
    first: pads.Dataset, second: pads.Dataset, relabelled: _Pairs, labels: list[str], was: np.ndarray, now: np.ndarray
) -> tuple[ChangedLabel, ...]:
    """The most confident of the changed labels, given as places in `labels`: int (N,) each."""
    confidences = _numbers(first, "confidence")[relabelled.first], _numbers(second, "confidence")[relabelled.second]
    best = np.lexsort((relabelled.first, -np.minimum(*confidences)))[:SHOWN]
    shown = relabelled.where(best)
    uris = zip(_uris(first, shown.first), _uris(second, shown.second), strict=True)
    return tuple(
        ChangedLabel(
            uri=uri,
            label=(labels[was[row]], labels[now[row]]),
            confidence=(float(confidences[0][row]), float(confidences[1][row])),
        )
        for row, uri in zip(best, uris, strict=True)
    )


def _classes(scores: pads.Dataset, columns: Sequence[str]) -> list[str]:
    """The classes that both sides know, as labels name them; tables of before say it by their columns alone."""
    own = probability_columns(scores.schema.names)
    names = json.loads((scores.schema.metadata or {}).get(b"classes_json", b"[]"))
    of_column = dict(zip(own, names if len(names) == len(own) else [name.removeprefix(PREFIX) for name in own], strict=True))
    return [of_column[name] for name in columns if name in of_column]


def _shared(first: pads.Dataset, second: pads.Dataset) -> tuple[list[str], list[str]]:
    """Columns to compare that both have, and those that one of them has."""
    kept = [[name for name in scores.schema.names if name.startswith(PREFIX) or name == "decision"] for scores in (first, second)]
    both = ["confidence", *(name for name in kept[0] if name in kept[1])]
    return both, [name for name in (*kept[0], *kept[1]) if name not in both]


# --- which row is which --------------------------------------------------------------------------------------------------------------


def _matched(first: pads.Dataset, second: pads.Dataset) -> tuple[str, _Pairs]:
    """What matched them, and the matched rows."""
    by_uri = _match(first, second, "uri")
    if len(by_uri):
        return "uri", by_uri
    return "content_sha256", _match(first, second, "content_sha256")


def _match(first: pads.Dataset, second: pads.Dataset, key: str) -> _Pairs:
    texts = _texts(first, key)
    known = pc.drop_null(pc.unique(texts))
    numbered = [_numbered(first, texts, known)]
    texts = _texts(second, key)  # the first run's texts are let go
    numbered.append(_numbered(second, texts, known))
    del texts, known
    times = 1 + max(int(occurrence.max(initial=0)) for _, _, occurrence in numbered)
    mine, theirs = (code * times + occurrence for _, code, occurrence in numbered)
    _, mine, theirs = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    return _Pairs(first=numbered[0][0][mine], second=numbered[1][0][theirs])


def _numbered(scores: pads.Dataset, texts: pa.ChunkedArray, known: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the rows whose text is among `known`: position, which text, and its how-manieth occurrence by row_id, all int64 (N,)."""
    codes = _places(texts, known)
    where = np.flatnonzero(codes >= 0)
    codes = codes[where].astype(np.int64)
    order = np.lexsort((_numbers(scores, "row_id")[where], codes))
    ranked, places = codes[order], np.arange(len(order))
    begins = np.r_[True, ranked[1:] != ranked[:-1]][: len(order)]
    occurrence = np.empty_like(codes)
    occurrence[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return where, codes, occurrence


# --- columns -------------------------------------------------------------------------------------------------------------------------


def _texts(scores: pads.Dataset, name: str) -> pa.ChunkedArray:
    # Offsets of 64 bits: ten million URIs are past the 2 GB that one array of `string` holds.
    return scores.to_table(columns=[name])[name].cast(pa.large_string())


def _numbers(scores: pads.Dataset, name: str) -> np.ndarray:
    return scores.to_table(columns=[name])[name].to_numpy()


def _places(texts: pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    """Where in `known` each text stands: int32 (N,), -1 for one that does not."""
    return pc.fill_null(pc.index_in(texts, value_set=known, skip_nulls=True), -1).to_numpy()


def _coded(
    first: pads.Dataset, second: pads.Dataset, name: str, pairs: _Pairs, known: list[str] | None = None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The texts of a column, those `known` first, and which of them each pair has in the first and in the second run: int32 (N,)."""
    columns = [pc.fill_null(_texts(scores, name), NOTHING) for scores in (first, second)]
    known = known or []
    found = {text for column in columns for text in pc.unique(column).to_pylist()}
    names = [*known, *sorted(found - set(known))]
    was, now = (_places(column, pa.array(names, pa.large_string())) for column in columns)
    return names, was[pairs.first], now[pairs.second]


def _cross_table(names: list[str], was: np.ndarray, now: np.ndarray, known: list[str] | None = None) -> CrossTable:
    """Counts of every two texts, without those that no pair has, unless they are `known`."""
    size = len(names)
    counts = np.bincount(was.astype(np.int64) * size + now, minlength=size * size).reshape(size, size)
    kept = [place for place, name in enumerate(names) if name in (known or []) or counts[place].any() or counts[:, place].any()]
    return {names[row]: {names[column]: int(counts[row, column]) for column in kept} for row in kept}


def _difference(first: pads.Dataset, second: pads.Dataset, name: str, pairs: _Pairs) -> Difference:
    if not len(pairs):
        return Difference(mean=None, largest=None)
    apart = np.abs(_numbers(first, name)[pairs.first] - _numbers(second, name)[pairs.second])
    return Difference(mean=float(apart.mean(dtype=np.float64)), largest=float(apart.max()))


def _uris(scores: pads.Dataset, positions: np.ndarray) -> list[str]:
    """The uri at each of a few positions."""
    ordered = np.sort(positions)
    found = [uri for uris in _streamed(scores, ordered) for uri in uris.to_pylist()]
    return [found[place] for place in np.searchsorted(ordered, positions)]


def _folders(scores: pads.Dataset, positions: np.ndarray) -> Counter[str]:
    """How many of the rows at `positions` lie in each folder; the top of an archive is one."""
    counts: Counter[str] = Counter()
    for uris in _streamed(scores, np.sort(positions)):
        count(counts, folders(uris))
    return counts


def _streamed(scores: pads.Dataset, ordered: np.ndarray) -> Iterator[pa.Array]:
    """The uris at rising positions, batch by batch; nothing is read where there are none."""
    begin = 0
    for batch in scores.to_batches(columns=["uri"], batch_size=_BATCH) if len(ordered) else ():
        low, high = np.searchsorted(ordered, [begin, begin + len(batch)])
        if high > low:
            yield batch["uri"].take(pa.array(ordered[low:high] - begin))
        begin += len(batch)
