"""Thresholds of `decision`, from validation images alone, and what else a later run is compared with."""

from typing import Any

import numpy as np
from sklearn.covariance import LedoitWolf

from btc_ray.model.reference import Reference, most_confident

KEPT_ACCEPT, KEPT_REJECT = 0.95, 0.99  # shares of the validation images nearer than `accept_distance` and `reject_distance`
KEPT_SURROUND = 0.99  # … and of those with a `surround` of at most `accept_surround`
TARGET_RISK = 0.01  # errors among the accepted validation images, at most
LEAST_CONFIDENCE = 0.5  # below it another class may be as likely
NOTHING = 1.01  # a confidence that no image reaches
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
MOST = 50_000  # images that the covariance is estimated from: 0.2 GB in float64, a hundred for each feature
BINS = 20  # of confidence, 5 % each


def fit_reference(features: np.ndarray, labels: np.ndarray) -> Reference | None:
    """Class means and a shared covariance of training features, shrunk so that it can be inverted. None where there is no spread to
    measure by: one image a class, or features that are not finite.

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
    return Reference(means=means.astype(np.float32), precision=precision.astype(np.float32))


def choose_thresholds(
    probabilities: np.ndarray, distance: np.ndarray, surround: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """The `decision` of a bundle.

    `accept_distance` and `reject_distance` keep 95 and 99 % of the validation images, `accept_surround` 99 %; `accept_confidence` is
    the lowest at which, of those that both keep, at most 1 % are wrong, and above 1, so that nothing is accepted, where there is none
    or where they are fewer than a hundred, of which 1 % cannot be told. Beside them what justifies them (`risk_coverage`) and what a
    run's scores are compared with (`confidence`, `distance_deciles`).

    Args:
        probabilities: float32 (N, C), calibrated, of validation images.
        distance: float32 (N,).
        surround: float32 (N,), of `images.surround`.
        labels: int64 (N,).

    Returns an empty dict for no images.
    """
    if not len(labels):
        return {}
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accept_distance, reject_distance = (float(np.quantile(distance, kept)) for kept in (KEPT_ACCEPT, KEPT_REJECT))
    known = surround[~np.isnan(surround)]
    accept_surround = float(np.quantile(known, KEPT_SURROUND)) if len(known) else 1.0
    near = (distance <= accept_distance) & (surround <= accept_surround)
    accept_confidence = _least_confidence(confidence[near], right[near])
    accepted = near & (confidence >= accept_confidence)
    return {
        "accept_distance": accept_distance,
        "reject_distance": reject_distance,
        "accept_confidence": accept_confidence,
        "accept_surround": accept_surround,
        "target_risk": TARGET_RISK,
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


def _least_confidence(confidence: np.ndarray, right: np.ndarray) -> float:
    """The lowest confidence, LEAST_CONFIDENCE or more, at and above which at most TARGET_RISK are wrong; NOTHING where there is none."""
    if len(confidence) * TARGET_RISK < 1:
        return NOTHING
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences go together
    sure = confidence[order] >= LEAST_CONFIDENCE
    good = np.flatnonzero(last & sure & (wrong <= TARGET_RISK * np.arange(1, len(order) + 1)))
    return float(confidence[order[good[-1]]]) if len(good) else NOTHING
