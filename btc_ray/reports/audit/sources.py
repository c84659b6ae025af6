"""Where the images of each class come from, and whether a picture gives its source away without a look at the head.

Where a class has a source of its own, to know the source is to know the class, and no test on the same data tells one from the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from btc_ray.reports.audit.probes import border
from btc_ray.reports.shared.bootstrap import grouped_share

FOLDS = 5
OWN = 0.95  # of a source's images are of one class: the source is that class's own
LEAST = 10  # images of a source, to be told from others
SHRINK = 0.1  # of the squared features' mean, added to each: borders in a row are alike
MOST_SOURCES = 50  # more different names than this are a column of identifiers
TITLES = {"histogram": "Grey histogram", "border": "Border", "both": "Both together"}


def class_by_source(labels: Sequence[str], sources: Sequence[str | None]) -> dict[str, Any]:
    """Counts of each class from each source, and the classes that have one of their own.

    `by_class`: class → source → images, of those that name a source (`named`); `own`: for each class of which 95 % and more come from
    sources of which 95 % and more are that class, these sources and the images from there. Empty where only one class is named.
    """
    counts = Counter((label, source) for label, source in zip(labels, sources, strict=True) if source is not None)
    of_class, of_source = _totals(counts, 0), _totals(counts, 1)
    own = {}
    for name in sorted(of_class) if len(of_class) > 1 else ():
        mine = [source for source in sorted(of_source) if counts[name, source] >= OWN * of_source[source]]
        images = sum(counts[name, source] for source in mine)
        if images >= OWN * of_class[name]:
            own[name] = {"sources": mine, "images": images, "of": of_class[name]}
    by_class = {name: {source: counts[name, source] for source in sorted(of_source)} for name in sorted(of_class)}
    return {"named": sum(counts.values()), "sources": dict(sorted(of_source.items())), "by_class": by_class, "own": own}


def tell_sources(
    frames: np.ndarray, histograms: np.ndarray, sources: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
    """How often a small classifier names the source of images of groups that it has not seen, from the grey histogram, the border, or
    both: ridge regression on the sources (Hoerl and Kennard 1970), five folds by group.

    Args:
        frames: uint8 (N, 64, 64), whole frames; histograms: float32 (N, 32); sources: object (N,), none of them None; groups: int (N,).

    Returns `told`: a record for each input with `accuracy`, and `images` and `chance` (the share of the largest source); or the `reason`
    of none.
    """
    names, counts = np.unique(sources.astype(str), return_counts=True)
    if len(names) > MOST_SOURCES:
        return {"reason": f"{len(names):,} different sources are too many to be told apart"}
    rows = np.flatnonzero(np.isin(sources.astype(str), names[counts >= LEAST]))
    if len(np.unique(sources[rows].astype(str))) < 2:
        return {"reason": f"needs two sources of {LEAST} images each"}
    if len(np.unique(groups[rows])) < 2:
        return {"reason": "all images are of one group, so that none is unseen"}
    truth = np.unique(sources[rows].astype(str), return_inverse=True)[1]
    edges = np.stack([border(frame) for frame in frames[rows]])
    inputs = {"histogram": histograms[rows], "border": edges, "both": np.hstack([histograms[rows], edges])}
    return {
        "images": len(rows),
        "chance": float(np.bincount(truth).max() / len(rows)),
        "told": [
            {
                "key": key,
                "title": TITLES[key],
                "accuracy": grouped_share(_held_out(values, truth, groups[rows], seed) == truth, groups[rows], seed=seed),
            }
            for key, values in inputs.items()
        ],
    }


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What follows from `class_by_source` and `tell_sources` for a test score, in plain words."""
    said = []
    for name, own in found["own"].items():
        where = " and ".join(own["sources"][:3]) + (f" and {len(own['sources']) - 3:,} others" if len(own["sources"]) > 3 else "")
        said.append(
            f"That a model tells {name} rather than its source: {own['images']:,} of {own['of']:,} images of {name} come from {where}, "
            "which gave hardly any of another class. Images of other classes from there, or of this one from elsewhere, would tell "
            "(btc-ray evaluate --external)."
        )
    told = found.get("told")
    if told:
        best = max(told, key=lambda one: one["accuracy"]["value"])
        low = best["accuracy"]["low"]
        if low is not None and low > found["chance"]:
            said.append(
                f"That a source leaves no mark: {best['title'].lower() if best['key'] != 'both' else 'grey histogram and border'} alone "
                f"tell it for {best['accuracy']['value']:.1%} of {found['images']:,} images of unseen groups, where always naming the "
                f"largest would get {found['chance']:.1%}."
            )
    return said


def _totals(counts: Mapping[tuple[str, str], int], place: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for key, images in counts.items():
        found[key[place]] += images
    return found


def _held_out(inputs: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The source that is named for each image by a classifier of the folds that its group is not in: int64 (N,)."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(FOLDS, len(np.unique(groups)))
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=SHRINK * len(truth) * (1 - 1 / folds)))
    cross = GroupKFold(folds, shuffle=True, random_state=seed)
    found: np.ndarray = cross_val_predict(classifier, inputs, truth, groups=groups, cv=cross)
    return found
