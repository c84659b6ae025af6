"""Which scored images a reader should see first: one pass over the table, memory for the rows that are shown and for counts.

Suspected tumours come first, the most probable before the others; then what the model is not sure of; then what looks like nothing
it learned from; then the rest, the least confident before the others. Or, asked for, what would teach a model most (see `teaching`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.errors import UserError
from btc_ray.model.bundle import columns_of
from btc_ray.model.reference import REJECT, REVIEW
from btc_ray.reports.shared.tally import Causes, count, folders
from btc_ray.reports.worklist.sample import Sample
from btc_ray.reports.worklist.teaching import Teaching
from btc_ray.settings.review import Order

SUSPECTED, UNCERTAIN, STRANGE, OTHER = "suspected", "uncertain", "strange", "other"
TIERS = (SUSPECTED, UNCERTAIN, STRANGE, OTHER)
SHARES = (0.4, 0.3, 0.15, 0.15)  # of the rows on the page; what a tier does not need goes to the others
OTHER_FOLDERS = "other folders"
UNSURE = 0.9  # confidence below which a row is uncertain where the bundle has no thresholds
BINS = 20  # of confidence, 5 % each
# Names of classes, less blanks, hyphens and underscores.
HEALTHY = ("notumor", "notumour", "notumors", "notumours", "normal", "healthy", "none", "negative")
FOLDERS_HELD = 20_000  # counted apart; where there are more, those with the fewest tumours are counted together

COLUMNS = (
    "row_id", "uri", "status", "error", "width", "height", "crop_x", "crop_y", "crop_w", "crop_h", "crop_status", "label", "confidence",
    "feature_distance", "energy", "decision", "content_sha256",
)  # fmt: skip


class WorklistError(UserError):
    """A table that no worklist can be made of."""


def healthy_class(classes: Sequence[str]) -> str | None:
    """The class that stands for no tumour, by its name; None where there is none."""
    return next((name for name in classes if re.sub(r"[\s_-]", "", name.lower()) in HEALTHY), None)


@dataclass(kw_only=True)
class Worklist:
    """What one pass over the scores found. `most` rows are kept of each tier.

    `deciles`: nine rising feature distances that cut the validation images into ten equal parts; empty where they are unknown.
    """

    classes: tuple[str, ...]
    columns: tuple[str, ...]  # of their probabilities
    most: int
    deciles: tuple[float, ...] = ()
    rows: int = 0
    status: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    causes: Causes = field(default_factory=Causes)
    folders: Counter[str] = field(default_factory=Counter)  # → images scored
    ill: Counter[str] = field(default_factory=Counter)  # folder → images with a tumour as the likeliest answer
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    # Images in each tenth of the validation images' distances.
    distance: np.ndarray = field(default_factory=lambda: np.zeros(10, np.int64))
    kept: dict[str, pa.Table] = field(default_factory=dict)
    sample: Sample = field(default_factory=lambda: Sample(size=0))
    teaching: Teaching | None = None  # where the order is that of what would teach most

    def add(self, batch: pa.RecordBatch) -> None:
        """Count rows of `scores` and keep the most urgent. Raises WorklistError where a column of the contract is missing."""
        table = self._columns(batch)
        self.rows += len(table)
        for name, counter in (("status", self.status), ("label", self.labels), ("decision", self.decisions)):
            count(counter, table[name])
        self.causes.add_rows(table.filter(pc.not_equal(table["status"], "ok")))
        good = pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["confidence"]))
        scored = table.filter(good)
        if not len(scored):
            return
        healthy = healthy_class(self.classes)
        ill = np.array(scored["label"].to_pylist(), object) != healthy
        suspicion, tier, order = self._urgency(scored, healthy, ill)
        self._add_distributions(scored)
        self._add_folders(folders(scored["uri"]), ill)
        if self.sample.size or self.teaching:
            named = scored.append_column("suspicion", pa.array(suspicion, pa.float32()))
            named = named.append_column("tier", pa.array(np.array(TIERS, object)[tier], pa.string()))
            if self.sample.size:
                self.sample.add(named)
            if self.teaching:
                keys = pa.Table.from_batches([batch])["series_key"].filter(good) if "series_key" in batch.schema.names else None
                self.teaching.add(named, keys)
        for number, name in enumerate(TIERS):
            found = np.flatnonzero(tier == number)
            self.tiers[name] += len(found)
            found = found[np.lexsort((np.asarray(scored["row_id"])[found], order[found]))][: self.most]
            rows = scored.take(found).append_column("suspicion", pa.array(suspicion[found], pa.float32()))
            rows = rows.append_column("order", pa.array(order[found], pa.float64()))
            if name in self.kept:
                rows = pa.concat_tables([self.kept[name], rows]).sort_by([("order", "ascending"), ("row_id", "ascending")])
            self.kept[name] = rows.slice(0, self.most).combine_chunks()

    def chosen(self) -> pa.Table:
        """The rows that are shown, in the order in which they should be read, with `tier` and `suspicion`."""
        if self.teaching is not None and self.teaching.rows is not None:
            return self.teaching.chosen()
        tables = [
            table.slice(0, shown).drop_columns(["order"]).append_column("tier", pa.array([name] * shown, pa.string()))
            for name, table, shown in zip(self.kept, self.kept.values(), self._counts(), strict=True)
        ]
        if tables:
            return pa.concat_tables(tables)
        ids = {"row_id": pa.int64()} | dict.fromkeys(("width", "height", "crop_x", "crop_y", "crop_w", "crop_h"), pa.int32())
        types = ids | dict.fromkeys(("confidence", "feature_distance", "energy"), pa.float32())
        columns = [pa.field(name, types.get(name, pa.string())) for name in COLUMNS]
        floats = [pa.field(name, pa.float32()) for name in (*self.columns, "suspicion")]
        return pa.schema([*columns, *floats, pa.field("tier", pa.string())]).empty_table()

    def _counts(self) -> list[int]:
        """How many rows of each tier are shown: its share, and what the others leave."""
        have = np.array([len(table) for table in self.kept.values()])
        counts = np.minimum(have, np.floor(self.most * np.array(SHARES[: len(have)])).astype(int))
        for place in range(len(have)):
            counts[place] += min(have[place] - counts[place], self.most - counts.sum())
        return [int(count) for count in counts]

    def _columns(self, batch: pa.RecordBatch) -> pa.Table:
        later = ("feature_distance", "energy", "decision")  # runs of older versions do not have them
        names = [*COLUMNS, *self.columns]
        if missing := [name for name in names if name not in batch.schema.names and name not in later]:
            raise WorklistError(
                f"the scores have no column {missing[0]!r}: they are not of this model. Give --model the bundle that made them."
            )
        table = pa.Table.from_batches([batch])
        for name in later:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), pa.string() if name == "decision" else pa.float32()))
        return table.select(names)

    def _urgency(self, scored: pa.Table, healthy: str | None, ill: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each row the probability of a tumour, its tier as a number, and its place within the tier: the smaller the earlier."""
        confidence = _floats(scored["confidence"])
        suspicion = (
            np.full(len(scored), np.nan) if healthy is None else 1 - _floats(scored[self.columns[self.classes.index(healthy)]])
        )
        decision = np.array(scored["decision"].to_pylist(), object)
        unknown = decision == None  # noqa: E711 - elementwise
        uncertain = (decision == REVIEW) | (unknown & (confidence < UNSURE))
        strange = decision == REJECT
        tier = np.select([strange, uncertain, ill], [2, 1, 0], 3)
        distance = _floats(scored["feature_distance"])
        certain = -suspicion if healthy is not None else -confidence
        return suspicion, tier, np.select([tier == 2, tier == 3], [-distance, confidence], certain)

    def _add_distributions(self, scored: pa.Table) -> None:
        self.confidence += np.histogram(_floats(scored["confidence"]), bins=BINS, range=(0, 1))[0]
        distance = _floats(scored["feature_distance"].drop_null())
        if self.deciles and len(distance):
            self.distance += np.bincount(np.searchsorted(self.deciles, distance), minlength=10)

    def _add_folders(self, places: pa.ChunkedArray, ill: np.ndarray) -> None:
        count(self.folders, places)
        count(self.ill, places.filter(pa.array(ill)))
        if len(self.folders) > FOLDERS_HELD:
            for folder in self.ranked_folders()[FOLDERS_HELD // 2 :]:
                for counter in (self.folders, self.ill):
                    counter[OTHER_FOLDERS] += counter.pop(folder, 0)

    def ranked_folders(self) -> list[str]:
        """Folders, those with most tumours first."""
        return sorted(self.folders, key=lambda folder: (-self.ill[folder], -self.folders[folder], folder))


def read_worklist(
    batches: Iterable[pa.RecordBatch],
    classes: Sequence[str],
    *,
    most: int,
    decision: Mapping[str, Any],
    columns: Sequence[str] = (),
    sample: int = 0,
    seed: int = 0,
    order: Order = "urgency",
) -> Worklist:
    """The worklist of a run. `decision` is the bundle's, and so are the `columns` of the probabilities, where it names them.
    `sample` rows are drawn at random too. Raises WorklistError."""
    deciles = tuple(decision.get("distance_deciles", ()))
    names = columns_of(classes, columns)
    worklist = Worklist(
        classes=tuple(classes),
        columns=names,
        most=most,
        deciles=deciles,
        sample=Sample(size=sample, seed=seed),
        teaching=Teaching(most=most, columns=names) if order == "teaching" else None,
    )
    for batch in batches:
        worklist.add(batch)
    return worklist


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.nan_to_num(column.to_numpy(zero_copy_only=False).astype(np.float64))
