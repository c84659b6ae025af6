"""Scores of slices → evidence of series and exams: means, shares and runs. A label only by a rule that was fitted on labelled patients.

Memory: 24 bytes a used slice and a row a series; the scores pass by in batches.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.model.bundle import PREFIX
from btc_ray.studies.rule import TUMOUR, SeriesRule, features_of
from btc_ray.studies.tables import exams_schema, series_schema

FEWEST_SLICES = 5
LEAST_SHARE = 0.2  # of the slices of a series: fewer used ones say nothing of it
_EVIDENCE_OF_EXAM = ("patient_key", "exam_number", "patient_conflict")


class _Sums:
    """What is added up while the scores pass by, an entry a series."""

    def __init__(self, series: int, classes: int) -> None:
        self.counts = {name: np.zeros(series, np.int64) for name in ("ok", "not_ok", "accept", "review", "reject", "used")}
        self.distances = np.zeros(series)
        self.placed = np.zeros(series, np.int64)
        self.probability = np.zeros((series, classes))
        self.label = np.zeros((series, classes), np.int64)
        self.peak = np.full(series, -1.0)
        self.peak_row = np.full(series, -1, np.int64)
        self.slices: list[tuple[np.ndarray, ...]] = []


def series_table(
    described: pa.Table,
    scores: Iterable[pa.RecordBatch],
    *,
    classes: Sequence[str],
    healthy: str | None,
    rule: SeriesRule | None = None,
) -> pa.Table:
    """RUN/series: the `described` series (columns of `studies.tables.DESCRIPTION`) with what their `scores` come to.

    `healthy`: the class that is no tumour; None where there is none, and then there is no share of tumours and no run. `rule`: what
    labels those series that can be judged; `decision` stays `review`, for no rule is fitted to be trusted unread.
    """
    keys = described["series_key"].combine_chunks()
    sums = _Sums(len(keys), len(classes))
    ill = np.array([name != healthy for name in classes]) if healthy in classes else np.zeros(len(classes), bool)
    for batch in scores:
        _add(sums, batch, keys, classes, ill)
    runs, run_mm = _longest_runs(sums, len(keys), ill)
    used = sums.counts["used"]
    some = used > 0
    selected = np.asarray(described["selected"].fill_null(False))
    slices = np.asarray(described["slices"].fill_null(0))
    columns: dict[str, Any] = {name: described[name] for name in described.column_names}
    columns |= {"rows_ok": sums.counts["ok"], "rows_not_ok": sums.counts["not_ok"], "n_used": used}
    columns |= {f"n_{name}": sums.counts[name] for name in ("accept", "review", "reject")}
    for number, name in enumerate(classes):
        columns[f"mean_{name}"] = _over(sums.probability[:, number], used)
        columns[f"share_{name}"] = _over(sums.label[:, number], used)
    columns["share_tumour"] = _over(sums.label[:, ill].sum(axis=1), used) if ill.any() else pa.nulls(len(keys))
    columns["longest_run"] = pa.array(runs, mask=~some | ~ill.any())
    columns["longest_run_mm"] = pa.array(run_mm, mask=~some | ~ill.any() | np.isnan(run_mm))
    columns["peak_row_id"] = pa.array(sums.peak_row, mask=~some)
    columns["training_like"] = _over(sums.distances, sums.placed)
    thin = (used < FEWEST_SLICES) | (used < LEAST_SHARE * slices)
    columns |= _labels(columns, rule, selected & ~thin, healthy)
    columns["decision"] = pa.array(np.where(thin, "insufficient", "review").astype(object), pa.string(), mask=~selected)
    schema = series_schema(classes)
    return pa.table({name: _column(columns[name]).cast(schema.field(name).type) for name in schema.names}, schema=schema)


def evidence(series: pa.Table, healthy: str) -> np.ndarray:
    """What a rule looks at, of the rows of RUN/series or RUN/exams: float64 (N, 4) of `studies.rule.FEATURES`, NaN where nothing is
    used. `healthy`: the class that is no tumour, as columns have it."""
    return _features({name: series[name] for name in series.column_names}, healthy)


def _features(columns: dict[str, Any], healthy: str) -> np.ndarray:
    names = ("share_tumour", "longest_run", "n_used", "slices", f"mean_{healthy}")
    values = {name: _column(columns[name]).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names}
    return features_of(values | {"mean_tumour": 1 - values[f"mean_{healthy}"]})


def _labels(columns: dict[str, Any], rule: SeriesRule | None, judged: np.ndarray, healthy: str | None) -> dict[str, Any]:
    """The columns label, confidence and rule: null where there is no rule or too little to judge by (`judged` bool (N,))."""
    if rule is None or healthy is None:
        return {name: pa.nulls(len(judged)) for name in ("label", "confidence", "rule")}
    probability = rule.probability(np.nan_to_num(_features(columns, healthy)))
    label = np.where(probability >= 0.5, TUMOUR, rule.healthy).astype(object)
    return {
        "label": pa.array(label, pa.string(), mask=~judged),
        "confidence": pa.array(np.maximum(probability, 1 - probability), mask=~judged),
        "rule": pa.array(np.full(len(judged), rule.name, object), pa.string(), mask=~judged),
    }


def exams_table(series: pa.Table, *, classes: Sequence[str]) -> pa.Table:
    """RUN/exams from RUN/series: each exam with the evidence of its most training-like selected series. Different weightings are never
    averaged."""
    schema = exams_schema(classes)
    exams: dict[str, list[dict[str, Any]]] = {}
    for row in series.to_pylist():
        exams.setdefault(row["exam_key"], []).append(row)
    records = []
    for key, members in exams.items():
        selected = [row for row in members if row["selected"]]
        shown = min(selected, key=_unlike, default=None)
        record = {"exam_key": key, "n_series": len(members), "n_selected": len(selected)}
        record |= {name: members[0][name] for name in _EVIDENCE_OF_EXAM}
        record["patient_conflict"] = any(row["patient_conflict"] for row in members)
        if shown is not None:
            record = {name: shown[name] for name in schema.names if name in shown} | record
        records.append(record)
    return pa.Table.from_pylist(records, schema=schema)


def _unlike(row: dict[str, Any]) -> tuple[Any, ...]:
    """Series that can be judged come first, then the smallest distance from the training images, then the most slices."""
    distance = row["training_like"]
    return row["decision"] == "insufficient", distance is None, distance or 0.0, -(row["n_used"] or 0), row["series_key"]


def _add(sums: _Sums, batch: pa.RecordBatch, keys: pa.Array, classes: Sequence[str], ill: np.ndarray) -> None:
    of = pc.index_in(batch["series_key"], value_set=keys)
    here = np.asarray(of.is_valid())
    if not here.any():
        return
    rows = batch.filter(pa.array(here))
    at = np.asarray(of.drop_null(), np.int64)
    ok = np.asarray(pc.equal(rows["status"], "ok"))
    decision = rows["decision"].to_numpy(zero_copy_only=False)
    np.add.at(sums.counts["ok"], at[ok], 1)
    np.add.at(sums.counts["not_ok"], at[~ok], 1)
    for name in ("accept", "review", "reject"):
        np.add.at(sums.counts[name], at[ok & (decision == name)], 1)
    used = ok & (decision != "reject") & np.asarray(rows["duplicate_of"].is_null())
    if not used.any():
        return
    rows, at = rows.filter(pa.array(used)), at[used]
    np.add.at(sums.counts["used"], at, 1)
    probability = np.stack([rows[f"{PREFIX}{name}"].to_numpy(zero_copy_only=False) for name in classes], axis=1)
    best = probability.argmax(axis=1)
    np.add.at(sums.probability, at, probability)
    np.add.at(sums.label, (at, best), 1)
    distance = rows["feature_distance"].to_numpy(zero_copy_only=False).astype(float)
    placed = ~np.isnan(distance)
    np.add.at(sums.distances, at[placed], distance[placed])
    np.add.at(sums.placed, at[placed], 1)
    row_ids = np.asarray(rows["row_id"])
    suspicion = probability[:, ill].sum(axis=1) if ill.any() else probability.max(axis=1)
    for index in np.lexsort((row_ids, -suspicion)):  # the largest first: one look a series is enough
        if suspicion[index] > sums.peak[at[index]]:
            sums.peak[at[index]], sums.peak_row[at[index]] = suspicion[index], row_ids[index]
    place = rows["slice_index"].fill_null(-1).to_numpy(zero_copy_only=False)
    position = rows["position_mm"].to_numpy(zero_copy_only=False).astype(np.float32)
    sums.slices.append((at.astype(np.int32), place.astype(np.int32), best.astype(np.int16), position))


def _longest_runs(sums: _Sums, series: int, ill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The longest run of neighbouring used slices of one tumour class, in slices and in mm from its first to its last; a rejected slice
    ends a run, and so does the next stack."""
    runs, lengths = np.zeros(series, np.int64), np.full(series, np.nan)
    if not sums.slices:
        return runs, lengths
    at, place, label, position = (np.concatenate(parts) for parts in zip(*sums.slices, strict=True))
    order = np.lexsort((place, at))
    at, place, label, position = at[order], place[order], label[order], position[order]
    follows = (np.diff(at) == 0) & (np.diff(place) <= 1) & (np.diff(label) == 0) & ~(np.diff(position) < 0)
    begins = np.flatnonzero(np.concatenate([[True], ~follows]))
    ends = np.concatenate([begins[1:], [len(at)]])
    for first, last in zip(begins, ends, strict=True):
        if ill[label[first]] and last - first > runs[at[first]]:
            runs[at[first]] = last - first
            lengths[at[first]] = abs(position[last - 1] - position[first])
    return runs, lengths


def _over(total: np.ndarray, count: np.ndarray) -> pa.Array:
    """total / count, null where there is nothing to divide by."""
    return pa.array(total / np.maximum(count, 1), mask=count == 0)


def _column(values: Any) -> Any:
    return values if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values)
