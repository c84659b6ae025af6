"""What a classifier's probabilities are worth on labelled images, with intervals, as a JSON-ready record.

A value that does not exist (a class without images, one group only) is null and carries its reason; nothing here warns or gives NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from btc_ray.errors import UserError
from btc_ray.model.reference import most_confident
from btc_ray.reports.shared.bootstrap import (
    RESAMPLES,
    Figure,
    Grouped,
    figure,
    percentile_interval,
    ranked_resamples,
    resample_auroc,
    resample_sums,
    share_of_groups,
    wilson,
)

COVERAGES = (1.0, 0.95, 0.9, 0.8)  # shares of the images, the most confident first
BINS = 15  # of the top label's confidence, equally wide
SMALLEST = float(np.finfo(np.float32).tiny)  # a stored probability of 0 is taken for this: a loss of at most 87.3
ROC_POINTS = 400  # of a curve in the record, at most

DEFINITIONS = {
    "accuracy": "Share of the images whose most probable class is their label.",
    "balanced_accuracy": "Mean sensitivity of the classes that have images.",
    "mcc": "Matthews correlation coefficient for several classes (Gorodkin 2004), -1 to 1.",
    "auroc": "Area under the ROC curve, one class against the rest; the macro value is the mean over the classes that have images.",
    "cross_entropy": "Mean of -ln(probability of the label), in nats.",
    "brier": "Brier score: squared differences between probabilities and the label, summed over the classes (0 to 2), mean over images.",
    "ece": f"Expected calibration error: |accuracy - confidence| in {BINS} equally wide bins of the top label's confidence, weighted "
    "by their images (Naeini et al. 2015).",
    "risk_coverage": "Accuracy of the most confident share of the images (El-Yaniv and Wiener 2010): what is gained where a person "
    "takes over the others.",
    "decisions": "Images that the thresholds of the bundle, chosen on validation images, accept, put up for review, or reject.",
    "intervals": "95%. By the percentile bootstrap over whole groups: a patient's images with their copies, where the patient is known, "
    "else an image with its copies. Sensitivity, specificity and precision of images that are all groups of their own, and shares of all "
    "or none, by Wilson's score interval.",
}


class MetricsError(UserError):
    """Labels, probabilities and groups that do not fit together."""


def measure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    *,
    temperature: float = 1.0,
    uncalibrated_probabilities: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that is measured on one set of images.

    Args:
        labels: int (N,), index of the true class.
        probabilities: float (N, C) as `score` stores them: calibrated, which is softmax(logits / `temperature`).
        groups: int (N,), equal for images that are not independent.
        classes: the C names.
        temperature: the bundle's; the probabilities before it are softmax(`temperature` · ln p).
        uncalibrated_probabilities: float (N, C), where they are not of one temperature.

    Returns:
        A record for `json.dumps`; DEFINITIONS has its words. A number with an interval is `{value, low, high, reason}`.

    Raises:
        MetricsError: where shapes differ, a label is no class, or a probability is negative or not finite.
    """
    labels, probabilities, groups = _checked(labels, probabilities, groups, len(classes))
    grouped = Grouped.of(groups)
    before = uncalibrated(probabilities, temperature) if uncalibrated_probabilities is None else uncalibrated_probabilities
    confusion = confusion_counts(labels, probabilities.argmax(axis=1), len(classes))
    rank = ranked_resamples(len(labels), len(classes), resamples)
    return {
        "images": len(labels),
        "groups": grouped.count,
        "classes": list(classes),
        "resamples": resamples,
        "auroc_resamples": rank,
        "confusion": confusion.tolist(),
        **_overall(labels, probabilities, grouped, confusion, classes, resamples, seed),
        **_by_class(labels, probabilities, grouped, confusion, classes, resamples, rank, seed),
        "calibration": {
            "temperature": temperature,
            "before": _calibration(labels, before, grouped, resamples, seed),
            "after": _calibration(labels, probabilities, grouped, resamples, seed),
        },
        "risk_coverage": _risk_coverage(labels, probabilities, grouped, resamples, seed),
    }


def compare_models(
    labels: np.ndarray, champion_probabilities: np.ndarray, challenger_probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Two models on the same images, paired: challenger minus champion.

    Args: as for `measure`; both (N, C), rows in the same order.

    Returns:
        images, groups, champion_accuracy, challenger_accuracy, difference (a figure with the interval of the bootstrap over
        groups), only_champion_right, only_challenger_right, and p_value of McNemar's exact two-sided test on these two counts (1
        where no image tells the models apart; it takes images for independent, so the interval is the one to act on).

    Raises:
        MetricsError: as `measure`, and where there are no images.
    """
    from scipy.stats import binomtest

    classes = np.asarray(champion_probabilities).shape[-1]
    labels, champion, groups = _checked(labels, champion_probabilities, groups, classes)
    _, challenger, _ = _checked(labels, challenger_probabilities, groups, classes)
    if not len(labels):
        raise MetricsError("no images to compare two models on")
    grouped = Grouped.of(groups)
    right = np.stack([shares.argmax(axis=1) == labels for shares in (champion, challenger)], axis=1).astype(float)
    sums = np.column_stack([right[:, 1] - right[:, 0], np.ones(len(labels))])
    resampled = resample_sums(sums, grouped, lambda total: total[:, :1] / total[:, 1:], resamples=RESAMPLES, seed=0)[:, 0]
    only_champion, only_challenger = (int((right @ sign > 0).sum()) for sign in (np.array([1, -1]), np.array([-1, 1])))
    discordant = only_champion + only_challenger
    return {
        "images": len(labels),
        "groups": grouped.count,
        "champion_accuracy": float(right[:, 0].mean()),
        "challenger_accuracy": float(right[:, 1].mean()),
        "difference": percentile_interval(float((right[:, 1] - right[:, 0]).mean()), resampled, grouped.count),
        "only_champion_right": only_champion,
        "only_challenger_right": only_challenger,
        "p_value": float(binomtest(only_challenger, discordant, 0.5).pvalue) if discordant else 1.0,
        "resamples": RESAMPLES,
    }


def uncalibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(`temperature` · ln p): the probabilities (N, C) that the network gave before its logits were divided."""
    from scipy.special import softmax

    return softmax(temperature * np.log(np.clip(probabilities, SMALLEST, None)), axis=1)


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): true class by row, predicted class by column."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _checked(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, probabilities, groups = np.asarray(labels), np.asarray(probabilities, np.float64), np.asarray(groups)
    if labels.ndim != 1 or probabilities.shape != (len(labels), classes) or groups.shape != labels.shape or classes < 1:
        raise MetricsError(
            f"labels (N,), probabilities (N, {classes}) and groups (N,) are needed, not {labels.shape}, {probabilities.shape} and "
            f"{groups.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise MetricsError(f"labels are 0 to {classes - 1}, not {labels.min()} to {labels.max()}")
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise MetricsError("a probability is negative or not finite")
    return labels.astype(np.int64), probabilities, groups.astype(np.int64)


# --- right and wrong -----------------------------------------------------------------------------------------------------------------


def _overall(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Grouped,
    confusion: np.ndarray,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    size, names = len(classes), ("accuracy", "balanced_accuracy", "mcc")
    empty = [name for name, images in zip(classes, confusion.sum(axis=1), strict=True) if not images]
    if not len(labels):
        return {name: figure(None, reason="no images") for name in names} | {"absent_classes": empty}
    cells = np.zeros((len(labels), size * size))
    cells[np.arange(len(labels)), labels * size + probabilities.argmax(axis=1)] = 1
    present = confusion.sum(axis=1) > 0

    def statistic(sums: np.ndarray) -> np.ndarray:
        return _from_confusion(sums.reshape(-1, size, size), present)

    point = statistic(confusion.reshape(1, -1).astype(float))[0]
    resampled = resample_sums(cells, groups, statistic, resamples=resamples, seed=seed)
    record: dict[str, Any] = {
        name: percentile_interval(
            float(point[column]) if np.isfinite(point[column]) else None,
            resampled[:, column],
            groups.count,
            reason="all labels, or all predictions, are of one class",  # MCC alone can be undefined where there are images
        )
        for column, name in enumerate(names)
    }
    if point[0] in (0, 1) and groups.count > 1:  # no resample can differ: the groups are the trials that all went one way
        bounds = wilson(round(groups.count * point[0]), groups.count)
        record["accuracy"] |= {
            "low": bounds["low"],
            "high": bounds["high"],
            "reason": f"no resample differs: Wilson's interval over the {groups.count:,} groups",
        }
    return record | {"absent_classes": empty}


def _from_confusion(counts: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(R, C, C) → (R, 3): accuracy, mean sensitivity of the `present` classes, multi-class MCC; NaN where one does not exist."""
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    total, right = true.sum(axis=1), np.trace(counts, axis1=1, axis2=2)
    hits = np.diagonal(counts, axis1=1, axis2=2)[:, present]
    sensitivity = np.divide(hits, true[:, present], out=np.full(hits.shape, np.nan), where=true[:, present] > 0)
    covariance = right * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    mcc = np.divide(covariance, np.sqrt(spread), out=np.full(len(counts), np.nan), where=spread > 0)
    return np.column_stack([right / total, sensitivity.mean(axis=1), mcc])


# --- class by class ------------------------------------------------------------------------------------------------------------------


def _by_class(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Grouped,
    confusion: np.ndarray,
    classes: Sequence[str],
    resamples: int,
    ranked: int,
    seed: int,
) -> dict[str, Any]:
    """`by_class`, and the macro `auroc`, which is resampled `ranked` times."""
    records, points, resampled = [], [], []
    shares = _shares_by_class(labels, probabilities.argmax(axis=1), groups, classes, resamples, seed)
    for number, name in enumerate(classes):
        images, total = int(confusion[number].sum()), int(confusion.sum())
        record: dict[str, Any] = {
            "class": name,
            "images": images,
            "predicted": int(confusion[:, number].sum()),
            **shares[number],
            "auroc": figure(None, reason=f"no images of {name}" if not images else f"no images of another class than {name}"),
            "roc": None,
        }
        if 0 < images < total:
            scores, positive = probabilities[:, number], labels == number
            point = area_under_roc(scores, positive)
            drawn = resample_auroc(scores, positive, groups, resamples=ranked, seed=seed)
            points.append(point)
            resampled.append(drawn)
            record |= {"auroc": percentile_interval(point, drawn, groups.count), "roc": _roc(scores, positive)}
        records.append(record)
    if not points:
        return {"auroc": figure(None, reason="fewer than two classes have images"), "by_class": records}
    return {
        "auroc": percentile_interval(float(np.mean(points)), np.mean(resampled, axis=0), groups.count),
        "by_class": records,
    }


def _shares_by_class(
    labels: np.ndarray, predicted: np.ndarray, groups: Grouped, classes: Sequence[str], resamples: int, seed: int
) -> list[dict[str, Figure]]:
    """`sensitivity`, `specificity` and `precision` of each class."""
    trials, hits, missing = [], [], []
    for number, name in enumerate(classes):
        of_class, said = labels == number, predicted == number
        trials += [of_class, ~of_class, said]
        hits += [of_class & said, ~of_class & ~said, of_class & said]
        missing += [f"no images of {name}", f"no images of another class than {name}", f"nothing was predicted as {name}"]
    shares = len(trials)
    sums = np.column_stack([*hits, *trials]).astype(float)

    def statistic(found: np.ndarray) -> np.ndarray:
        over, under = found[:, :shares], found[:, shares:]
        return np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)

    resampled = resample_sums(sums, groups, statistic, resamples=resamples, seed=seed) if len(labels) else np.empty((0, shares))
    found = [
        share_of_groups(
            int(hits[place].sum()),
            int(trials[place].sum()),
            resampled[:, place],
            len(np.unique(groups.of_row[trials[place]])),
            missing=missing[place],
        )
        for place in range(shares)
    ]
    names = ("sensitivity", "specificity", "precision")
    return [dict(zip(names, found[3 * number : 3 * number + 3], strict=True)) for number in range(len(classes))]


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive image has a higher score than a negative one, ties counting half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores))


def _roc(scores: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """The curve's corners, thinned to ROC_POINTS; the first threshold is above every score and stands as null."""
    from sklearn.metrics import roc_curve

    false, true, thresholds = roc_curve(positive, scores, drop_intermediate=True)
    if len(false) > ROC_POINTS:
        kept = np.unique(np.linspace(0, len(false) - 1, ROC_POINTS).round().astype(int))
        false, true, thresholds = false[kept], true[kept], thresholds[kept]
    return {
        "false_positive_rate": [round(float(value), 6) for value in false],
        "true_positive_rate": [round(float(value), 6) for value in true],
        "threshold": [float(value) if np.isfinite(value) else None for value in thresholds],
    }


# --- the probabilities themselves ----------------------------------------------------------------------------------------------------


def _calibration(labels: np.ndarray, probabilities: np.ndarray, groups: Grouped, resamples: int, seed: int) -> dict[str, Any]:
    """Cross-entropy, Brier score, ECE, and the bins of the reliability diagram."""
    names = ("cross_entropy", "brier", "ece")
    if not len(labels):
        missing: dict[str, Any] = {name: figure(None, reason="no images") for name in names}
        return missing | {"reliability": []}
    rows = np.arange(len(labels))
    of_label = np.clip(probabilities[rows, labels], SMALLEST, None)
    wanted = np.zeros_like(probabilities)
    wanted[rows, labels] = 1
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (lower, upper], as Guo et al. 2017 have them
    binned = np.zeros((3, len(labels), BINS))  # images, right ones, confidence
    for layer, value in enumerate((np.ones(len(labels)), right, confidence)):
        binned[layer, rows, bins] = value
    values = np.column_stack([-np.log(of_label), ((probabilities - wanted) ** 2).sum(axis=1), np.hstack(list(binned))])

    def statistic(sums: np.ndarray) -> np.ndarray:
        images, hits, trust = sums[:, 2:].reshape(len(sums), 3, BINS).transpose(1, 0, 2)
        total = images.sum(axis=1)
        return np.column_stack([sums[:, 0] / total, sums[:, 1] / total, np.abs(hits - trust).sum(axis=1) / total])

    point = statistic(values.sum(axis=0, keepdims=True))[0]
    resampled = resample_sums(values, groups, statistic, resamples=resamples, seed=seed)
    record: dict[str, Any] = {
        name: percentile_interval(float(point[column]), resampled[:, column], groups.count) for column, name in enumerate(names)
    }
    return record | {"reliability": [_bin(number, *binned[:, :, number].sum(axis=1).tolist()) for number in range(BINS)]}


def _risk_coverage(
    labels: np.ndarray, probabilities: np.ndarray, groups: Grouped, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Accuracy of the most confident shares of the images, each with the confidence that keeps it."""
    if not len(labels):
        return []
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows = []
    for coverage in COVERAGES:
        kept = most_confident(confidence, coverage)
        sums = np.column_stack([kept & right, kept]).astype(float)
        resampled = resample_sums(sums, groups, _share, resamples=resamples, seed=seed)[:, 0]
        rows.append(
            {
                "coverage": coverage,
                "images": int(kept.sum()),
                "confidence": float(confidence[kept].min()),
                "accuracy": percentile_interval(float(right[kept].mean()), resampled, groups.count),
            }
        )
    return rows


def _share(sums: np.ndarray) -> np.ndarray:
    """(R, 2) of right and kept images to (R, 1): the share, NaN where none is kept."""
    return np.divide(sums[:, :1], sums[:, 1:], out=np.full((len(sums), 1), np.nan), where=sums[:, 1:] > 0)


def _bin(number: int, images: float, right: float, confidence: float) -> Figure:
    return {
        "from": number / BINS,
        "to": (number + 1) / BINS,
        "images": int(images),
        "confidence": confidence / images if images else None,
        "accuracy": right / images if images else None,
    }
