"""`summary.html` of a scoring run: one page for a person, with everything in it and nothing fetched from anywhere.

The table is read once, batch by batch; memory and page hold counts and the few rows that are shown, however many rows there are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.model.bundle import PREFIX, probability_columns
from btc_ray.reports.shared.figures import Box
from btc_ray.reports.shared.page import PALETTE, ReadImage, file_name, picture, render
from btc_ray.reports.shared.tally import EXAMPLES, Causes, count, without_numbers
from btc_ray.studies.told import told

if TYPE_CHECKING:
    import pyarrow.dataset as pads  # half a second, and a run of 100 images needs none of it

BINS = 20  # of the confidence histogram, 5 % each
SHOWN_PER_CLASS, SHOWN_AT_ALL = 12, 480  # thumbnails of about 5 kB: 2.5 MB at most, however many classes there are
CAUSES_SHOWN = 20  # error causes on the page

Scores: TypeAlias = "pa.Table | pads.Dataset | str | Path | Iterable[pa.RecordBatch]"

COLUMNS = (
    "row_id", "uri", "status", "error", "crop_x", "crop_y", "crop_w", "crop_h", "crop_status", "label", "confidence",
    "model_id", "preprocess_id",
)  # fmt: skip


def write_summary(*, scores: Scores, run: Mapping[str, Any], read_image: ReadImage | None = None) -> str:
    """The page as HTML text; the caller writes the file, as UTF-8.

    Args:
        scores: rows with the columns of `scores`: a table, a data set, the path of one, or record batches in any order.
        run: what `run.json` says. Everything in it is optional; what is missing is named as not recorded.
        read_image: the bytes of a row's image, by its `row_id` or `uri`; called for the images that are shown, at most 12 a
            class. Whatever it raises becomes a placeholder with the reason. None: no pictures.

    Raises:
        ValueError: where a column is missing.
        OSError: where `scores` is a path that cannot be read.
    """
    found = _Findings()
    for batch in _batches(scores):
        found.add(batch)
    recorded = [str(name) for name in run.get("classes") or found.classes]
    classes = recorded + sorted(set(found.labels) - set(recorded))
    images = sum(found.status.values())
    known = int((run.get("known") or {}).get("files", 0))
    return render(
        "summary.html.j2",
        filters={"share": lambda part, whole: f"{part / whole:.1%}" if whole else "–"},
        notice=NOT_FOR_DIAGNOSIS,
        verdict=outcome(images, found.status["ok"], known=known),
        trouble=found.status["ok"] < images or (images == 0 and not known),
        complete=run.get("complete", True),
        images=images,
        status=_ordered(found.status, ("ok", "unreadable", "unsupported", "failed")),
        classes=[(name, found.labels[name]) for name in classes],
        histogram=_histogram(found, classes),
        median=_median(found),
        crops=found.crops.most_common(CAUSES_SHOWN),
        facts=_facts(run, found),
        versions=dict(run.get("versions") or {}),
        settings=dict(run.get("settings") or {}),
        skipped=[(reason, tally["count"], list(tally["examples"])[:EXAMPLES]) for reason, tally in _skipped(run)],
        series=told(run.get("studies") or {}),
        causes=found.causes.counts.most_common(CAUSES_SHOWN),
        causes_beyond=found.causes.counts.most_common()[CAUSES_SHOWN:],
        examples=found.causes.examples,
        sheets=_sheets(found, classes, read_image),
        pictures=read_image is not None,
        colours=len(PALETTE),
        palette=PALETTE,
    )


def outcome(images: int, ok: int, *, known: int = 0) -> str:
    """One line in plain words: how many of the images were scored; `known`: the files that earlier runs had scored."""
    if images == 0 and known:
        return f"Nothing new: {known:,} files, all scored by earlier runs"
    if images == 0:
        return "No images were found in the inputs"
    if ok == images:
        return "1 image, scored" if images == 1 else f"{images:,} images, all scored"
    if ok == 0:
        return "The only image could not be scored" if images == 1 else f"None of {images:,} images could be scored"
    return f"{images - ok:,} of {images:,} images could not be scored"


# --- one pass over the rows ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Findings:
    """All that the page needs of the rows; bounded, however many there are."""

    status: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    crops: Counter[str] = field(default_factory=Counter)
    causes: Causes = field(default_factory=Causes)
    bins: dict[str, np.ndarray] = field(default_factory=dict)  # label → int64 (BINS,)
    candidates: dict[str, pa.Table] = field(default_factory=dict)  # label → rows that may be shown
    constants: dict[str, str] = field(default_factory=dict)  # model_id and preprocess_id of the first row
    classes: list[str] = field(default_factory=list)  # as the prob_ columns have them

    def add(self, batch: pa.RecordBatch) -> None:
        missing = [name for name in COLUMNS if name not in batch.schema.names]
        if missing:
            raise ValueError(
                f"this is not a table of scores: the column {missing[0]!r} is missing. Give the folder RUN/scores of a run."
            )
        self.classes = self.classes or [name.removeprefix(PREFIX) for name in probability_columns(batch.schema.names)]
        if not len(batch):
            return
        table = pa.Table.from_batches([batch]).select(list(COLUMNS))
        count(self.status, table["status"])
        count(self.labels, table["label"])
        count(self.crops, table["crop_status"], without_numbers)
        for name in ("model_id", "preprocess_id"):
            self.constants.setdefault(name, str(table[name][0].as_py()))
        self.causes.add_rows(table.filter(pc.not_equal(table["status"], "ok")))
        scored = table.filter(pc.and_(pc.is_valid(table["label"]), pc.is_valid(table["confidence"])))
        for label in pc.unique(scored["label"]).to_pylist():
            rows = scored.filter(pc.equal(scored["label"], label))
            confidence = np.nan_to_num(rows["confidence"].to_numpy())
            bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
            self.bins[label] = self.bins.get(label, np.zeros(BINS, np.int64)) + np.bincount(bins, minlength=BINS)
            seen = [self.candidates[label], rows] if label in self.candidates else [rows]
            self.candidates[label] = _promising(pa.concat_tables(seen))


def _batches(scores: Scores) -> Iterator[pa.RecordBatch]:
    if isinstance(scores, str | Path):
        import pyarrow.dataset as pads

        scores = pads.dataset(str(scores), format="parquet")
    if isinstance(scores, pa.Table):
        yield pa.RecordBatch.from_pylist([], schema=scores.schema)
        yield from scores.to_batches(max_chunksize=65_536)
    elif not isinstance(scores, Iterable):  # a data set
        yield pa.RecordBatch.from_pylist([], schema=scores.schema)  # the columns are checked even where there are no rows
        yield from scores.to_batches(columns=[name for name in scores.schema.names if name in COLUMNS], batch_size=65_536)
    else:
        yield from scores


def _orders(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions by falling confidence, by rising confidence, and shuffled; the same whatever order the rows come in."""
    row_id, confidence, mixed = _keys(rows)
    return np.lexsort((row_id, -confidence)), np.lexsort((row_id, confidence)), np.lexsort((row_id, mixed))


def _keys(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row its row_id, its confidence, and a number that shuffles the rows."""
    row_id = rows["row_id"].to_numpy()
    confidence = np.nan_to_num(rows["confidence"].to_numpy())
    # The mixing step of SplitMix64 (Steele et al. 2014) is a fixed shuffle of the row numbers.
    mixed = row_id.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return row_id, confidence, mixed ^ (mixed >> np.uint64(27))


def _promising(rows: pa.Table) -> pa.Table:
    """At most 36 rows: those that can still be among the shown, whatever comes."""
    if len(rows) <= SHOWN_PER_CLASS:
        return rows
    row_id, confidence, mixed = _keys(rows)
    first = [_first(key, row_id) for key in (-confidence, confidence, mixed)]
    return rows.take(np.unique(np.concatenate(first)))


def _first(key: np.ndarray, row_id: np.ndarray) -> np.ndarray:
    """Positions of the SHOWN_PER_CLASS smallest keys, equal ones by row_id; only what may be among them is sorted."""
    near = np.flatnonzero(key <= np.partition(key, SHOWN_PER_CLASS - 1)[SHOWN_PER_CLASS - 1])
    return near[np.lexsort((row_id[near], key[near]))][:SHOWN_PER_CLASS]


# --- what the page shows -------------------------------------------------------------------------------------------------------------


def _chosen(rows: pa.Table, most: int) -> list[tuple[str, dict[str, Any]]]:
    """(why, row): a third each of the highest and the lowest confidence and of the others at random, no row twice."""
    highest, lowest, shuffled = _orders(rows)
    third = -(-most // 3)
    taken: dict[int, str] = {}
    for why, order, end in (
        ("highest", highest, third),
        ("lowest", lowest, 2 * third),
        ("at random", shuffled, most),
    ):
        for position in order.tolist():
            if len(taken) >= min(end, most):
                break
            taken.setdefault(position, why)
    records = rows.to_pylist()
    return [(why, records[position]) for position, why in taken.items()]


def _sheets(found: _Findings, classes: Sequence[str], read_image: ReadImage | None) -> list[dict[str, Any]]:
    shown = [(index, name) for index, name in enumerate(classes) if name in found.candidates]
    most = max(1, min(SHOWN_PER_CLASS, SHOWN_AT_ALL // max(1, len(shown))))
    sheets = []
    for index, name in shown[:SHOWN_AT_ALL]:
        cards = [
            {
                "why": why,
                "uri": row["uri"],
                "name": file_name(row["uri"]),
                "confidence": row["confidence"],
            }
            | (picture(row, read_image, box=_box(row)) if read_image is not None else {})
            for why, row in _chosen(found.candidates[name], most)
        ]
        sheets.append({"name": name, "index": index, "count": found.labels[name], "cards": cards})
    return sheets


def _box(row: Mapping[str, Any]) -> Box | None:
    x, y, w, h = (row[name] for name in ("crop_x", "crop_y", "crop_w", "crop_h"))
    return None if None in (x, y, w, h) else (x, y, w, h)


def _histogram(found: _Findings, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each bin its count and its stacked parts, in per cent of the highest bin."""
    counts = np.array([found.bins.get(name, np.zeros(BINS, np.int64)) for name in classes]).reshape(len(classes), BINS)
    highest = max(1, int(counts.sum(axis=0).max(initial=0)))
    bars = []
    for position in range(BINS):
        parts, top = [], 0.0
        for index in np.flatnonzero(counts[:, position]).tolist():
            height = 100 * int(counts[index, position]) / highest
            parts.append({"index": index, "y": 100 - top - height, "height": height})
            top += height
        label = f"{100 * position / BINS:.0f}–{100 * (position + 1) / BINS:.0f} %"
        bars.append({"label": label, "count": int(counts[:, position].sum()), "parts": parts})
    return bars


def _median(found: _Findings) -> str | None:
    total = np.sum(list(found.bins.values()), axis=0) if found.bins else np.zeros(BINS, np.int64)
    if not total.sum():
        return None
    middle = int(np.searchsorted(np.cumsum(total), total.sum() / 2))
    return f"{100 * middle / BINS:.0f} and {100 * (middle + 1) / BINS:.0f} %"


def _facts(run: Mapping[str, Any], found: _Findings) -> list[tuple[str, str | list[str]]]:
    """What was run, on what, by what, how fast: (name, value), or (name, values) for a list."""
    fingerprint, sessions = run.get("fingerprint") or {}, run.get("sessions") or []
    seconds = sum(session.get("seconds", 0) for session in sessions)
    scored = sum(session.get("images", 0) for session in sessions)
    inputs = [str(uri) for uri in fingerprint.get("inputs") or []]
    shown = inputs[:10] + ([f"and {len(inputs) - 10:,} more"] if len(inputs) > 10 else [])
    machines = [
        f"{'Ray' if session.get('path') == 'ray' else 'in this process'}: "
        + ", ".join(f"{number:g} {kind}" for kind, number in (session.get("resources") or {}).items() if number)
        for session in sessions
    ]
    return [
        ("Inputs", shown or "not recorded"),
        *_known(run),
        ("Throughput", f"{scored / seconds:,.1f} images/s" if seconds and scored else "not recorded"),
        (
            "Wall time",
            _duration(seconds) + (f" in {len(sessions)} sessions" if len(sessions) > 1 else "") if sessions else "not recorded",
        ),
        ("Started", str(sessions[0].get("started", "not recorded")) if sessions else "not recorded"),
        ("Finished", str(run.get("finished") or "not recorded")),
        ("Hardware", list(dict.fromkeys(machines)) or "not recorded"),
        ("Model", str(fingerprint.get("model_id") or found.constants.get("model_id") or "not recorded")),
        ("Preprocessing", str(fingerprint.get("preprocess_id") or found.constants.get("preprocess_id") or "not recorded")),
        ("Engine", str(fingerprint.get("engine") or "not recorded")),
        ("Precision", str(fingerprint.get("precision") or "not recorded")),
    ]


def _known(run: Mapping[str, Any]) -> list[tuple[str, str | list[str]]]:
    known = run.get("known") or {}
    if not known:
        return []
    runs = dict(known.get("runs") or {})
    latest = [f"{count:,} by {uri}" for uri, count in [*runs.items()][::-1][:10]]
    return [("Known", [f"{known.get('files', 0):,} files, scored by {len(runs):,} earlier runs, by {known.get('by')}", *latest])]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{minutes} min {int(seconds % 60)} s" if not hours else f"{hours:,} h {minutes % 60} min"


def _skipped(run: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted((run.get("skipped") or {}).items(), key=lambda item: (-item[1]["count"], item[0]))


def _ordered(counts: Counter[str], first: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, counts[name]) for name in (*first, *sorted(set(counts) - set(first)))]
