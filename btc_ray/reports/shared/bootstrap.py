"""95% intervals: the bootstrap over whole groups; Wilson's for a proportion of images each of which is a group of its own.

Images of one group (copies, slices of one patient) are not independent, so a resample draws groups, never single images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES = 2_000
LEVEL = 0.95
_CELLS = 4_000_000  # weights held at once: 32 MB of float64
_WORK = 400_000_000  # weights summed for the AUROC of all classes before fewer resamples are drawn: some seconds

Figure = dict[str, Any]  # value, low, high: float or None; reason: why one of them is None, else None


def figure(value: float | None, low: float | None = None, high: float | None = None, *, reason: str | None = None) -> Figure:
    """A number with its interval as JSON holds it; what does not exist is None, with the reason."""
    return {"value": value, "low": low, "high": high, "reason": reason}


def wilson(successes: int, trials: int, *, missing: str = "no images") -> Figure:
    """A proportion with its Wilson score interval without continuity correction (Wilson 1927); `missing` is the reason where
    `trials` is 0. It takes the trials for independent: where they are copies of each other it is too narrow.
    """
    if trials == 0:
        return figure(None, reason=missing)
    return figure(successes / trials, *_wilson_bounds(successes, trials))


@lru_cache(maxsize=4096)
def _wilson_bounds(successes: int, trials: int) -> tuple[float, float]:
    """Kept, for scipy computes the test's p-value as well, 2 ms of it."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Which images are one group: `of_row` int64 (N,) numbers them 0 … count − 1."""

    of_row: np.ndarray
    count: int

    @classmethod
    def of(cls, groups: np.ndarray) -> "Grouped":
        """Any integers (N,), equal for images of one group."""
        names, of_row = np.unique(groups, return_inverse=True)
        return cls(of_row=of_row.reshape(-1), count=len(names))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """float64 (N, K) → (count, K): each group's sum."""
        totals = np.zeros((self.count, values.shape[1]))
        np.add.at(totals, self.of_row, values)
        return totals

    def draws(self, resamples: int, seed: int, *, width: int | None = None) -> Iterator[np.ndarray]:
        """How often each group is in each resample: float64 (R, count) pieces of `resamples` rows in all, each row adding up to
        `count`. `width` is what the caller spreads a row to, where that is more than the groups."""
        random = np.random.default_rng(seed)
        piece = max(1, _CELLS // max(self.count, width or 0))
        for start in range(0, resamples, piece):
            rows = min(piece, resamples - start)
            drawn = random.integers(0, self.count, size=(rows, self.count)) + np.arange(rows)[:, None] * self.count
            yield np.bincount(drawn.reshape(-1), minlength=rows * self.count).reshape(rows, self.count).astype(float)


def resample_sums(
    values: np.ndarray, groups: Grouped, statistic: Callable[[np.ndarray], np.ndarray], *, resamples: int, seed: int
) -> np.ndarray:
    """Figures that follow from sums over images, of every resample.

    Args:
        values: float64 (N, K), what is summed.
        statistic: sums (R, K) → figures (R, F); NaN where a figure does not exist.

    Returns:
        float64 (resamples, F).
    """
    totals = groups.sums(values)
    return np.concatenate([statistic(weights @ totals) for weights in groups.draws(resamples, seed)])


def resample_auroc(scores: np.ndarray, positive: np.ndarray, groups: Grouped, *, resamples: int, seed: int) -> np.ndarray:
    """The area under the ROC curve of every resample: float64 (resamples,), NaN where one side has no images.

    The probability that a positive image has the higher score, ties counting half (Hanley and McNeil 1982), from one sorting:
    a resample changes the weights, not the order.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # where each distinct score begins
    of_row, is_positive = groups.of_row[order], positive[order].astype(float)
    pieces = []
    for weights in groups.draws(resamples, seed, width=len(scores)):
        spread = weights[:, of_row]
        above = np.add.reduceat(spread * is_positive, starts, axis=1)
        beneath = np.add.reduceat(spread * (1 - is_positive), starts, axis=1)
        wins = (above * (np.cumsum(beneath, axis=1) - beneath / 2)).sum(axis=1)
        pairs = above.sum(axis=1) * beneath.sum(axis=1)
        pieces.append(np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0))
    return np.concatenate(pieces)


def ranked_resamples(images: int, classes: int, resamples: int) -> int:
    """How many resamples the AUROC gets: 2,000 up to 50,000 images of four classes, fewer beyond, but at least 200."""
    return min(resamples, max(200, _WORK // max(1, images * classes)))


def percentile_interval(value: float | None, resampled: np.ndarray, groups: int, *, reason: str | None = None) -> Figure:
    """`value` with the percentile interval (Efron 1979) of its resamples; those in which it does not exist are left out.

    No interval, with the reason, for a value that does not exist, for fewer than two groups, where more than half of the
    resamples lack it, and where all resamples agree: an error never met is not an error rate of exactly zero.
    """
    if value is None:
        return figure(None, reason=reason)
    if groups < 2:
        return figure(value, reason="an interval by group needs at least two groups")
    found = resampled[np.isfinite(resampled)]
    if len(found) * 2 < len(resampled):
        return figure(value, reason="more than half of the resamples lack a class that this needs")
    low, high = (float(end) for end in np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if high - low < 1e-12:
        return figure(value, reason="all resamples give the same value, so they tell nothing of its uncertainty")
    return figure(value, low, high)


def grouped_share(right: np.ndarray, groups: np.ndarray, *, seed: int = 0, missing: str = "no images") -> Figure:
    """The share of bool (N,) that holds, with the interval of `share_of_groups`, resampled here by groups, int (N,)."""
    if not len(right):
        return figure(None, reason=missing)
    grouped = Grouped.of(groups)
    return share_of_groups(int(right.sum()), len(right), _resampled_mean(right, grouped, seed), grouped.count, missing=missing)


def grouped_mean(values: np.ndarray, groups: np.ndarray, *, seed: int = 0, missing: str = "no images") -> Figure:
    """The mean of float64 (N,) over images, with the percentile interval of its resamples by groups, int (N,)."""
    if not len(values):
        return figure(None, reason=missing)
    grouped = Grouped.of(groups)
    return percentile_interval(float(values.mean()), _resampled_mean(values, grouped, seed), grouped.count)


def _resampled_mean(values: np.ndarray, groups: Grouped, seed: int) -> np.ndarray:
    """float64 (RESAMPLES,)."""
    sums = np.column_stack([values, np.ones(len(values))]).astype(float)
    return resample_sums(sums, groups, lambda total: total[:, :1] / total[:, 1:], resamples=RESAMPLES, seed=seed)[:, 0]


def share_of_groups(successes: int, trials: int, resampled: np.ndarray, groups: int, *, missing: str = "no images") -> Figure:
    """A proportion of images with the percentile interval of its resamples.

    Where every image is a group of its own it is Wilson's; where all images, or none, are successes, no resample differs, and it is
    Wilson's over the groups, which are the trials that all went one way.

    Args:
        groups: those with an image among the `trials`.
    """
    if trials == groups:
        return wilson(successes, trials, missing=missing)
    if successes in (0, trials) and groups > 1:
        bounds = wilson(groups if successes else 0, groups)
        reason = f"no resample differs: Wilson's interval over the {groups:,} groups"
        return figure(successes / trials, bounds["low"], bounds["high"], reason=reason)
    return percentile_interval(successes / trials, resampled, groups)
