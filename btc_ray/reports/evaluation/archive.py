"""How good a model is on an archive that nobody has labelled: what readers' answers about a few of its scored images say of all of them.

What is estimated is the share of this run's scored images, as they are, that the model is right about; other archives are not. A random
sample gives it without bias. Images that the model chose itself (the worklist) give it only beside such a sample: they stand for
themselves, and the sample for all others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from btc_ray.reports.shared.bootstrap import RESAMPLES, Figure, Grouped, figure, percentile_interval, resample_sums, wilson
from btc_ray.reports.shared.metrics import confusion_counts

NO_HEAD, NOT_SURE = -1, -2  # in place of a class

DEFINITIONS = {
    "sample": "The rows of the random sample that have an answer. Each scored image was as likely to be drawn as any other, so shares "
    "among them are those of the archive without bias; intervals are Wilson's score intervals, 95%, a little too wide where the sample "
    "is a large part of the archive.",
    "weighted": "Rows of the worklist that were read from its beginning without a gap, tier by tier, with inclusion probability 1, and of "
    "the sample's rows all others, each standing for (images not read so) / (sampled rows among them): the estimator of Horvitz and "
    "Thompson (1952) where one stratum is read whole and the other sampled (Cochran, Sampling Techniques, 1977, chapter 5). The "
    "interval of the accuracy is Wilson's for the sampled part; those of the classes are by the bootstrap over it.",
    "read": "All rows that have an answer, as they are. The model has chosen the worklist's, so this is no estimate of anything else.",
    "accuracy": "Share of the heads whose answer is the model's label. Images that are no head have no class and are counted apart; so are "
    "those of which the reader is unsure.",
}


def of_sample(predicted: np.ndarray, answered: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Figures of a simple random sample.

    Args:
        predicted: int (N,), the model's class of each row that has an answer.
        answered: int (N,), the reader's class, NO_HEAD or NOT_SURE.
        classes: the C names.

    Returns:
        `images`, `heads`, `right`; `not_a_head`, `unsure` and `accuracy` as figures; `by_class` with the `share` of a class among the
        heads, and `sensitivity`, `specificity` and `precision`.
    """
    heads = answered >= 0
    counts = confusion_counts(answered[heads], predicted[heads], len(classes))
    total, right, images = int(counts.sum()), int(np.trace(counts)), len(answered)
    return {
        "images": images,
        "heads": total,
        "right": right,
        "not_a_head": wilson(int((answered == NO_HEAD).sum()), images, missing="no answers"),
        "unsure": wilson(int((answered == NOT_SURE).sum()), images, missing="no answers"),
        "accuracy": wilson(right, total, missing="no answer names a class"),
        "confusion": counts.tolist(),
        "by_class": [_class(name, number, counts) for number, name in enumerate(classes)],
    }


def _class(name: str, number: int, counts: np.ndarray) -> dict[str, Any]:
    total, true, called, hit = (
        int(value) for value in (counts.sum(), counts[number].sum(), counts[:, number].sum(), counts[number, number])
    )
    return {
        "class": name,
        "images": true,
        "predicted": called,
        "share": wilson(true, total, missing="no answer names a class"),
        "sensitivity": wilson(hit, true, missing=f"no images of {name}"),
        "specificity": wilson(total - true - called + hit, total - true, missing=f"no images of another class than {name}"),
        "precision": wilson(hit, called, missing=f"nothing was predicted as {name}"),
    }


def weighted(
    predicted: np.ndarray,
    answered: np.ndarray,
    certain: np.ndarray,
    population: int,
    classes: Sequence[str],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Figures of rows that were read whole and of a random sample of all the others.

    Args:
        predicted, answered: as for `of_sample`, of the rows that were read whole and of the sample's other rows.
        certain: bool (N,), which were read whole; the others are a simple random sample of the population's rest.
        population: images in all.

    Returns:
        `certain` and `sampled` rows, the `weight` of each of the latter, `accuracy`, and `by_class` with `sensitivity` and `precision`.
    """
    rest, sampled = population - int(certain.sum()), int((~certain).sum())
    record: dict[str, Any] = {"images": len(answered), "certain": int(certain.sum()), "sampled": sampled}
    if rest and not sampled:
        why = "no row of the random sample stands for the images that were not read"
        return record | {"weight": None, "accuracy": figure(None, reason=why), "by_class": []}
    weight = rest / sampled if sampled else 0.0
    parts = [part & (answered >= 0) for part in (certain, ~certain)]
    whole, drawn = (confusion_counts(answered[part], predicted[part], len(classes)) for part in parts)
    return record | {
        "weight": weight,
        "accuracy": _weighted_accuracy(whole, drawn, weight),
        "by_class": _weighted_classes(whole, predicted[~certain], answered[~certain], weight, classes, resamples),
    }


def _weighted_accuracy(whole: np.ndarray, drawn: np.ndarray, weight: float) -> Figure:
    """What was read counts as it is, the rest by its share in the sample: so is the interval's either end. How many heads the rest has
    is taken as the sample says."""
    heads = weight * drawn.sum()
    everything = whole.sum() + heads
    if not everything:
        return figure(None, reason="no answer names a class")
    share = wilson(int(np.trace(drawn)), int(drawn.sum()))
    ends = [0.0 if share[name] is None else share[name] for name in ("value", "low", "high")]
    value, low, high = (float((np.trace(whole) + heads * end) / everything) for end in ends)
    return figure(value, low, high)


def _weighted_classes(
    whole: np.ndarray, predicted: np.ndarray, answered: np.ndarray, weight: float, classes: Sequence[str], resamples: int
) -> list[dict[str, Any]]:
    size = len(classes)
    cells = np.zeros((len(answered), size * size))
    heads = np.flatnonzero(answered >= 0)
    cells[heads, answered[heads] * size + predicted[heads]] = 1

    def shares(sums: np.ndarray) -> np.ndarray:
        counts = whole + weight * sums.reshape(-1, size, size)
        hits = np.diagonal(counts, axis1=1, axis2=2)
        among = np.concatenate([counts.sum(axis=2), counts.sum(axis=1)], axis=1)
        hits = np.concatenate([hits, hits], axis=1)
        return np.divide(hits, among, out=np.full(hits.shape, np.nan), where=among > 0)

    point = shares(cells.sum(axis=0, keepdims=True))[0]
    groups = Grouped.of(np.arange(len(cells)))
    drawn = resample_sums(cells, groups, shares, resamples=resamples, seed=0) if len(cells) else np.zeros((0, 2 * size))
    records = []
    for number, name in enumerate(classes):
        record: dict[str, Any] = {"class": name}
        for what, column in (("sensitivity", number), ("precision", size + number)):
            value = float(point[column]) if np.isfinite(point[column]) else None
            record[what] = percentile_interval(value, drawn[:, column], groups.count, reason=f"no images of {name}")
        records.append(record)
    return records


def read_whole(place: np.ndarray, tier: np.ndarray, has_answer: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Which rows of a worklist were read from its beginning on without a gap, tier by tier: bool (N,).

    Args:
        place: float (N,), where each row stands in the worklist; NaN where it is only drawn.
        tier: (N,), its tier.
        has_answer: bool (N,).
        drawn: bool (N,), whether it is in the random sample.

    What ends a row of answers and is in the sample does not count: it may have been read for the sample's sake, and what is read whole
    must not depend on what was drawn.
    """
    listed = np.isfinite(place)
    if has_answer[listed].all() and not drawn[listed].all():
        return listed
    found = np.zeros(len(place), bool)
    for name in np.unique(tier[listed]):
        rows = np.flatnonzero(listed & (tier == name))
        rows = rows[np.argsort(place[rows])]
        gaps = np.flatnonzero(~has_answer[rows])
        first = rows[: gaps[0]] if len(gaps) else rows
        own = np.flatnonzero(~drawn[first])
        end = 0 if not len(own) else len(first) if not len(gaps) else own[-1] + 1
        found[first[:end]] = True
    return found
