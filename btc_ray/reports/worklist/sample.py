"""A simple random sample of the scored images of a run, drawn in one pass: so many images as one wants to read, each as likely as any
other, whatever the model says of them.

Every row has a number at random that the seed and its row_id give; the rows with the smallest numbers are the sample, in their order
(Ohlsson, Coordination of samples using permanent random numbers, 1995). So a sample of 400 begins with that of 200 of the same seed, and
the first rows of a sample are a sample.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

METHOD = "simple random sample of the scored images, without replacement, by permanent random numbers"
COLUMNS = ("place", "drawn", "inclusion_probability")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def random_numbers(row_ids: np.ndarray, seed: int) -> np.ndarray:
    """uint64 (N,) for int64 (N,): no two rows of one seed have the same (SplitMix64: Steele, Lea and Flood, Fast splittable
    pseudorandom number generators, 2014, which maps 64 bits one to one)."""
    begin = _mixed(np.array([seed], np.int64).astype(np.uint64) * _GOLDEN + _GOLDEN)
    return _mixed(row_ids.astype(np.uint64) * _GOLDEN + begin)


def _mixed(values: np.ndarray) -> np.ndarray:
    for shift, factor in _MIXERS:
        values = (values ^ (values >> np.uint64(shift))) * factor
    return values ^ (values >> np.uint64(31))


@dataclass(kw_only=True)
class Sample:
    """What is drawn of the rows that were added, in any order: at most `size` of them; `population` counts all."""

    size: int
    seed: int = 0
    population: int = 0
    rows: pa.Table | None = None
    _numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, rows: pa.Table) -> None:
        """Scored rows, none of them twice."""
        self.population += len(rows)
        if not self.size or not len(rows):
            return
        numbers = np.concatenate([self._numbers, random_numbers(np.asarray(rows["row_id"]), self.seed)])
        first = np.argsort(numbers)[: self.size]
        table = rows if self.rows is None else pa.concat_tables([self.rows, rows])
        self.rows, self._numbers = table.take(first).combine_chunks(), numbers[first]

    def record(self) -> dict[str, Any] | None:
        """What review.json says of it; None where nothing was drawn."""
        if self.rows is None:
            return None
        return {"rows": len(self.rows), "of": self.population, "seed": self.seed, "method": METHOD}


def with_sample(chosen: pa.Table, sample: Sample) -> pa.Table:
    """The rows of a worklist and then those that are drawn and not in it, with three columns more.

    `place` int32: where a row stands in the worklist, null where it was only drawn; `drawn` int32: its place in the sample, null where it
    was not; `inclusion_probability` float64: 1 for the worklist, which the scores alone decide, and for all other rows the sample's share.
    """
    worklist = chosen["row_id"].to_pylist()
    known = set(worklist)
    drawn: dict[int, int] = {}
    table = chosen
    if sample.rows is not None:
        drawn = {row: number for number, row in enumerate(sample.rows["row_id"].to_pylist())}
        more = sample.rows.filter(pa.array([row not in known for row in drawn]))
        table = pa.concat_tables([chosen, more.select(chosen.column_names)])
    places = [*range(len(worklist)), *[None] * (len(table) - len(worklist))]
    share = len(drawn) / max(1, sample.population)
    columns = (
        pa.array(places, pa.int32()),
        pa.array([drawn.get(row) for row in table["row_id"].to_pylist()], pa.int32()),
        pa.array([share if place is None else 1.0 for place in places], pa.float64()),
    )
    for name, column in zip(COLUMNS, columns, strict=True):
        table = table.append_column(name, column)
    return table
