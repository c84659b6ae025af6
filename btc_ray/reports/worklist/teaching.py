"""Which images would teach a model most: those it is unsure of, and among them such as are unlike each other.

How much one image could teach is the length of the gradient at the output layer under the model's own answer, |p - onehot(answer)|, as
in BADGE (Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds, 2020). That method spreads its choice in the
space of gradients, which takes features; scores hold none. So images are told apart by what stands there: their probabilities, their
distance from the training images, and the series or folder that they are in, where neighbours are nearly the same picture. The choice is
greedy, like a k-centre's (Sener and Savarese, Active Learning for Convolutional Neural Networks, 2018): the next image is the one whose
gradient times its distance to the nearest one chosen is largest, among HELD times as many images as are shown, of the largest gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.reports.shared.tally import folders

HELD = 8  # candidates for each image that is chosen
_GRADIENT = "gradient"


@dataclass(kw_only=True)
class Teaching:
    """The candidates among the rows that were added, in any order; memory for HELD times `most` rows.

    `columns`: of the probabilities.
    """

    most: int
    columns: tuple[str, ...]
    rows: pa.Table | None = None

    def add(self, scored: pa.Table, series: pa.ChunkedArray | None = None) -> None:
        """Rows with a label; `series`: the key of each one's series, null for pictures."""
        gradients = gradient_lengths(_probabilities(scored, self.columns))
        group = folders(scored["uri"]) if series is None else pc.coalesce(series, folders(scored["uri"]))
        rows = scored.append_column(_GRADIENT, pa.array(gradients)).append_column("group", group)
        rows = rows if self.rows is None else pa.concat_tables([self.rows, rows])
        rows = rows.take(np.lexsort((np.asarray(rows["row_id"]), -rows[_GRADIENT].to_numpy())))
        contents = rows["content_sha256"].to_numpy(zero_copy_only=False).astype(str)
        _, first = np.unique(contents, return_index=True)  # of the same bytes the first alone
        self.rows = rows.take(np.sort(first)[: HELD * self.most]).combine_chunks()

    def chosen(self) -> pa.Table:
        """At most `most` rows, as they were added, in the order in which they should be read."""
        assert self.rows is not None
        group = self.rows["group"].combine_chunks().dictionary_encode().indices.to_numpy()
        distance = self.rows["feature_distance"].to_numpy(zero_copy_only=False).astype(float)
        order = teaching_order(_probabilities(self.rows, self.columns), distance, group, most=self.most)
        return self.rows.take(order).drop_columns([_GRADIENT, "group"]).combine_chunks()


def gradient_lengths(probabilities: np.ndarray) -> np.ndarray:
    """float64 (N,) of probabilities (N, C): 0 where the model is certain, at most 1."""
    left = probabilities.copy()
    left[np.arange(len(left)), probabilities.argmax(axis=1)] -= 1
    return np.asarray(np.linalg.norm(left, axis=1) / np.sqrt(2))


def teaching_order(probabilities: np.ndarray, distance: np.ndarray, group: np.ndarray, *, most: int) -> np.ndarray:
    """int64 (min(N, most),): which images to read, in this order.

    Args:
        probabilities: float (N, C).
        distance: float (N,), from the training images; NaN where it is not known.
        group: int (N,), images of one number are neighbours.

    Two images are at most sqrt(3) apart: one for other probabilities, one for another place among the distances, one for another group.
    """
    gradients = gradient_lengths(probabilities)
    ranks = np.zeros(len(distance))
    known = np.flatnonzero(np.isfinite(distance))
    ranks[known] = np.argsort(np.argsort(distance[known], kind="stable"), kind="stable") / max(1, len(known) - 1)
    places = np.concatenate([probabilities / np.sqrt(2), ranks[:, None]], axis=1)
    nearest = np.full(len(places), np.sqrt(3.0))
    order: list[int] = []
    for _ in range(min(most, len(places))):
        worth = gradients * nearest
        worth[order] = -1.0
        best = int(worth.argmax())
        order.append(best)
        apart = np.sqrt(((places - places[best]) ** 2).sum(axis=1) + (group != group[best]))
        nearest = np.minimum(nearest, apart)
    return np.array(order, np.int64)


def _probabilities(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    return np.stack([rows[name].to_numpy(zero_copy_only=False).astype(float) for name in columns], axis=1)
