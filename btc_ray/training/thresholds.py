"""Thresholds of `decision`, from images that were held out, and what else a later run is compared with."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.covariance import LedoitWolf

from btc_ray.model.engines.folding import STAGES
from btc_ray.model.reference import Gaussians, Reference, most_confident
from btc_ray.training.guarantee import HeldOut, choose_confidence

KEPT_ACCEPT, KEPT_REJECT = 0.95, 0.99  # shares of the validation images nearer than `accept_distance` and `reject_distance`
KEPT_SURROUND = 0.99  # … and of those with a `surround` of at most `accept_surround`
TARGET_RISK = 0.01  # errors among new patients' accepted images, at most
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
MOST = 50_000  # images that the covariance is estimated from: 0.2 GB in float64, a hundred for each feature
LEAST_TYPICAL = 1e-6  # of a distance in units of standard deviations: images that are all alike
BINS = 20  # of confidence, 5 % each


def fit_reference(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, *, widths: Sequence[int] = STAGES
) -> Reference | None:
    """What a model learned from, stage by stage. None where there is no spread to measure by: one image a class, or features that are
    not finite.

    Args:
        features: float32 (N, F), the stages of `widths` one behind the other; one image of each group of copies.
        labels: int64 (N,), each class at least once.
        held_out: float32 (M, F), by which the stages' distances are made comparable; where there are none, by `features`.
    """
    ends = np.cumsum(widths)[:-1]
    gaussians = [fit_gaussians(stage, labels) for stage in np.split(features, ends, axis=1)]
    fitted = tuple(one for one in gaussians if one is not None)
    if len(fitted) < len(widths):
        return None
    reference = Reference(gaussians=fitted, typical=np.ones(len(widths), np.float32))
    distances = np.array(reference.distances(held_out if len(held_out) else features))
    return replace(reference, typical=np.maximum(np.median(distances, axis=1), LEAST_TYPICAL).astype(np.float32))


def fit_gaussians(features: np.ndarray, labels: np.ndarray) -> Gaussians | None:
    """Class means and a shared covariance of training features, shrunk so that it can be inverted; None where there is no spread.

    Args:
        features: float32 (N, F), one image of each group of copies.
        labels: int64 (N,), each class at least once.

    Source of the shrinkage: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
    """
    if len(features) > MOST:
        kept = np.sort(np.random.default_rng(0).choice(len(features), MOST, replace=False))
        # Every class keeps an image, however rare it is.
        kept = np.union1d(kept, np.unique(labels, return_index=True)[1])
        features, labels = features[kept], labels[kept]
    means = np.stack([features[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = features - means[np.unique(labels, return_inverse=True)[1]]
    if not np.isfinite(within).all() or not within.any():
        return None
    precision = LedoitWolf(assume_centered=True).fit(within.astype(np.float64)).precision_
    return Gaussians(means=means.astype(np.float32), precision=precision.astype(np.float32))


def choose_thresholds(
    probabilities: np.ndarray,
    distance: np.ndarray,
    surround: np.ndarray,
    labels: np.ndarray,
    *,
    units: np.ndarray | None = None,
    unit: str = "image",
    target: float = TARGET_RISK,
    out_of_fold: HeldOut | None = None,
) -> dict[str, Any]:
    """The `decision` of a bundle.

    `accept_distance` and `reject_distance` keep 95 and 99 % of the validation images, `accept_surround` 99 %; `accept_confidence` is
    the lowest from which on, of those that both keep, the upper 95 % bound of the error rate over units is at most `target`
    (`guarantee`, which says why where there is none; it is then above 1, and nothing is accepted). Beside them what justifies them
    (`risk_coverage`) and what a run's scores are compared with (`confidence`, `distance_deciles`).

    Args:
        probabilities: float32 (N, C), calibrated, of validation images.
        distance: float32 (N,).
        surround: float32 (N,), of `images.surround`.
        labels: int64 (N,).
        units: int64 (N,), what is drawn independently: patients, groups of copies; None: each image for itself.
        unit: what a unit is, in words.
        target: errors among the accepted, a share.
        out_of_fold: answers that the confidence is chosen by instead, where there are any: they are many more. The temperature was
            fitted to the validation images' labels, which are therefore not quite unseen; these have one of their own fold.

    Returns an empty dict for no images.
    """
    if not len(labels):
        return {}
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accept_distance, reject_distance = (float(np.quantile(distance, kept)) for kept in (KEPT_ACCEPT, KEPT_REJECT))
    known = surround[~np.isnan(surround)]
    accept_surround = float(np.quantile(known, KEPT_SURROUND)) if len(known) else 1.0
    near = (distance <= accept_distance) & (surround <= accept_surround)
    numbers = np.arange(len(labels)) if units is None else np.unique(units, return_inverse=True)[1]
    found = choose_confidence(
        out_of_fold or HeldOut(confidence=confidence, right=right, units=numbers, candidates=near, unit=unit), target=target
    )
    accept_confidence = found.confidence
    accepted = near & (confidence >= accept_confidence)
    return {
        "accept_distance": accept_distance,
        "reject_distance": reject_distance,
        "accept_confidence": accept_confidence,
        "accept_surround": accept_surround,
        "target_risk": target,
        "guarantee": found.record(),
        "validation": {
            "images": len(labels),
            "accepted": int(accepted.sum()),
            "wrong_among_accepted": int((accepted & ~right).sum()),
            "wrong": int((~right).sum()),
        },
        "risk_coverage": risk_coverage(confidence, right),
        "confidence": np.histogram(confidence, bins=BINS, range=(0, 1))[0].tolist(),
        "distance_deciles": [float(value) for value in np.quantile(distance, np.linspace(0.1, 0.9, 9))],
    }


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """For each coverage the `images` kept, the most confident first, the `confidence` of the last of them, and the `accuracy`."""
    rows = []
    for coverage in COVERAGES:
        kept = most_confident(confidence, coverage)
        rows.append(
            {
                "coverage": coverage,
                "images": int(kept.sum()),
                "confidence": float(confidence[kept].min()),
                "accuracy": float(right[kept].mean()),
            }
        )
    return rows
