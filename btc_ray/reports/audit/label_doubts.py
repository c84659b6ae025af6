"""Which labels may be wrong: confident learning over probabilities that no image's own label, nor that of a copy, has had a part in.

Northcutt, Jiang and Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021.
"""

from dataclasses import dataclass

import numpy as np

FOLDS = 5
MOST_FITTED = 30_000  # images that a fold learns from; of more a random choice
_PENALTY = 0.01  # C of the logistic regression on standardised features, as for a head that training begins with


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """What `doubtful_labels` found.

    Attributes:
        suspected: int64 (N,), the class that each image is suspected to be of; -1 where its label is not doubted.
        margin: float64 (N,), probability of the label minus that of the most probable other class; the lower the more doubtful.
        thresholds: float64 (C,), the mean probability of a class over the images labelled so; NaN for one without images.
    """

    suspected: np.ndarray
    margin: np.ndarray
    thresholds: np.ndarray


def held_out_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, *, seed: int = 0
) -> np.ndarray | None:
    """Probabilities of a logistic head, each image's from a head that has seen neither it nor its group.

    Args:
        features: float32 (N, F) of a frozen backbone.
        labels: int (N,), 0 … classes - 1.
        groups: int (N,), copies and patients.

    Returns:
        float64 (N, classes), or None where the images do not allow it: fewer than two classes or groups, or a fold without a class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    present = np.unique(labels)
    per_class = [len(np.unique(groups[labels == which])) for which in present]
    folds = min(FOLDS, *per_class, FOLDS) if len(present) > 1 else 0
    if folds < 2:
        return None
    found = np.zeros((len(labels), classes))
    random = np.random.default_rng(seed)
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, groups):
        if len(train) > MOST_FITTED:
            train = np.sort(random.choice(train, MOST_FITTED, replace=False))
        if len(np.unique(labels[train])) < len(present):
            return None
        head = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=1000))
        head.fit(features[train], labels[train])
        found[np.ix_(test, head.classes_)] = head.predict_proba(features[test])
    return found


def doubtful_labels(probabilities: np.ndarray, labels: np.ndarray) -> Doubts:
    """The off-diagonal of the confident joint: images that are as probably of another class as the images labelled so are on average.

    Args:
        probabilities: float (N, C), of heads that have not seen the image.
        labels: int (N,).
    """
    count, classes = probabilities.shape
    rows = np.arange(count)
    own = probabilities[rows, labels]
    thresholds = np.full(classes, np.nan)
    for which in np.unique(labels):
        thresholds[which] = own[labels == which].mean()
    # A class without images has no threshold; nothing reaches it.
    confident = probabilities >= np.where(np.isnan(thresholds), np.inf, thresholds)
    counted = np.where(confident, probabilities, -1.0)
    best = counted.argmax(axis=1) if count else np.zeros(0, np.int64)
    others = probabilities.copy()
    others[rows, labels] = -1.0
    return Doubts(
        suspected=np.where(confident.any(axis=1) & (best != labels), best, -1),
        margin=own - others.max(axis=1, initial=-1.0),
        thresholds=thresholds,
    )
