"""The numbers against scikit-learn, published values and simulation; what does not exist is null with a reason."""

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from btc_ray.reports.shared.bootstrap import Grouped, percentile_interval, resample_auroc, resample_sums, wilson
from btc_ray.reports.shared.metrics import BINS, MetricsError, compare_models, measure, uncalibrated

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
Images = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(images: int = 600, *, seed: int = 0, per_group: int = 3, skill: float = 2.0, classes: int = 4) -> Images:
    """Labels, probabilities and groups; the more `skill` the fewer errors."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += skill
    return labels, softmax(logits), np.arange(images) // per_group


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def strict(record: dict[str, Any]) -> dict[str, Any]:
    """Through JSON that has no NaN."""
    return json.loads(json.dumps(record, allow_nan=False))


def figures(record: Any) -> list[dict[str, Any]]:
    """Every `{value, low, high, reason}` in a record."""
    if isinstance(record, dict) and record.keys() == {"value", "low", "high", "reason"}:
        return [record]
    inner = record.values() if isinstance(record, dict) else record if isinstance(record, list) else []
    return [found for item in inner for found in figures(item)]


def test_the_numbers_are_those_of_scikit_learn() -> None:
    labels, probabilities, groups = simulate()
    record = measure(labels, probabilities, groups, CLASSES, resamples=200)
    predicted = probabilities.argmax(axis=1)
    wanted = np.eye(4)[labels]
    assert record["confusion"] == reference.confusion_matrix(labels, predicted).tolist()
    for name, value in {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "mcc": reference.matthews_corrcoef(labels, predicted),
        "auroc": reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
    }.items():
        assert record[name]["value"] == pytest.approx(value, abs=1e-12)
        assert record[name]["low"] < value < record[name]["high"]
    after = record["calibration"]["after"]
    assert after["cross_entropy"]["value"] == pytest.approx(reference.log_loss(labels, probabilities), abs=1e-12)
    assert after["brier"]["value"] == pytest.approx(((probabilities - wanted) ** 2).sum(axis=1).mean(), abs=1e-12)
    precision, sensitivity, _, _ = reference.precision_recall_fscore_support(labels, predicted)
    for number, row in enumerate(record["by_class"]):
        assert row["precision"]["value"] == pytest.approx(precision[number])
        assert row["sensitivity"]["value"] == pytest.approx(sensitivity[number])
        others = labels != number
        assert row["specificity"]["value"] == pytest.approx((predicted[others] != number).mean())
        assert row["auroc"]["value"] == pytest.approx(reference.roc_auc_score(labels == number, probabilities[:, number]))
        roc = row["roc"]
        area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
        assert area == pytest.approx(row["auroc"]["value"], abs=1e-4)


def test_figures_of_a_class_are_resampled_by_patient_and_so_as_wide_as_patients_differ() -> None:
    """Twenty patients of fifty slices each, of whom a patient's are all right or all wrong: the interval is that of 20 trials."""
    patient = np.arange(1000) // 50
    labels = patient % 2
    said = np.where(patient % 5 == 0, 1 - labels, labels)
    wide, narrow = (
        measure(labels, np.eye(2)[said], groups, ("a", "b"), resamples=500)["by_class"][0]
        for groups in (patient, np.arange(1000))
    )
    for name in ("sensitivity", "specificity", "precision"):
        assert wide[name]["value"] == narrow[name]["value"]
        assert wide[name]["high"] - wide[name]["low"] > 4 * (narrow[name]["high"] - narrow[name]["low"])


def test_a_class_that_is_always_right_has_the_interval_of_its_patients() -> None:
    patient = np.arange(100) // 10
    record = measure(patient % 2, np.eye(2)[patient % 2], patient, ("a", "b"), resamples=50)["by_class"][0]
    assert record["sensitivity"]["low"] == wilson(5, 5)["low"]
    assert "over the 5 groups" in record["sensitivity"]["reason"]


def test_the_calibration_error_is_the_one_worked_out_by_hand() -> None:
    """Two bins: 0.9 sure and right in 1 of 2; 0.6 sure and right in 1 of 1. (2 · |0.5 − 0.9| + 1 · |1 − 0.6|) / 3 = 0.4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    record = measure(np.array([0, 1, 1]), probabilities, np.arange(3), ("a", "b"), resamples=50)
    after = record["calibration"]["after"]
    assert after["ece"]["value"] == pytest.approx(0.4)
    assert after["brier"]["value"] == pytest.approx((0.02 + 1.62 + 0.32) / 3)
    assert after["cross_entropy"]["value"] == pytest.approx(-(math.log(0.9) + math.log(0.1) + math.log(0.6)) / 3)
    filled = {row["from"]: row for row in after["reliability"] if row["images"]}
    assert sorted(filled) == pytest.approx([8 / BINS, 13 / BINS])
    assert [row["accuracy"] for row in after["reliability"] if not row["images"]] == [None] * (BINS - 2)


def test_probabilities_before_the_temperature_are_those_of_the_logits() -> None:
    logits = np.random.default_rng(3).normal(scale=4, size=(200, 4))
    labels = np.arange(200) % 4
    stored = softmax(logits / 2.5).astype(np.float32)
    assert uncalibrated(stored, 2.5) == pytest.approx(softmax(logits), abs=1e-5)
    calibration = measure(labels, stored, np.arange(200), CLASSES, temperature=2.5, resamples=50)["calibration"]
    assert calibration["before"]["cross_entropy"]["value"] == pytest.approx(reference.log_loss(labels, softmax(logits)), abs=1e-5)
    assert calibration["after"]["cross_entropy"]["value"] == pytest.approx(
        reference.log_loss(labels, softmax(logits / 2.5)), abs=1e-5
    )
    same = measure(labels, stored, np.arange(200), CLASSES, resamples=50)["calibration"]
    assert same["before"]["ece"]["value"] == pytest.approx(same["after"]["ece"]["value"], abs=1e-6)


def test_wilson_is_the_published_interval() -> None:
    """81 of 263 and 15 of 148: Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    for hits, trials, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson(hits, trials)
        assert (found["low"], found["high"]) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_a_resampled_auroc_is_that_of_the_repeated_images_ties_and_all() -> None:
    random = np.random.default_rng(5)
    scores, positive = random.integers(0, 9, 60) / 10, random.random(60) < 0.4
    groups = Grouped.of(np.arange(60) // 4)
    found = resample_auroc(scores, positive, groups, resamples=40, seed=7)
    weights = np.concatenate(list(groups.draws(40, 7, width=60))).astype(int)[:, groups.of_row]
    for value, times in zip(found, weights, strict=True):
        assert value == pytest.approx(reference.roc_auc_score(np.repeat(positive, times), np.repeat(scores, times)))


def test_the_interval_by_group_covers_the_truth_and_the_one_by_image_does_not() -> None:
    """120 groups of 8 images that are all right or all wrong: 95% of the intervals should hold the true 0.8."""
    random, covered = np.random.default_rng(11), {"group": 0, "image": 0}
    for seed in range(400):
        right = np.repeat(random.random(120) < 0.8, 8).astype(float)
        for name, groups in (("group", np.arange(960) // 8), ("image", np.arange(960))):
            sums = np.column_stack([right, np.ones(960)])
            drawn = resample_sums(sums, Grouped.of(groups), lambda total: total[:, :1] / total[:, 1:], resamples=400, seed=seed)
            found = percentile_interval(right.mean(), drawn[:, 0], len(np.unique(groups)))
            covered[name] += found["low"] <= 0.8 <= found["high"]
    assert 364 <= covered["group"] <= 394, covered
    assert covered["image"] < 280, covered


def test_the_interval_of_the_accuracy_is_the_one_by_group() -> None:
    labels, probabilities, groups = simulate(300, per_group=10)
    copies = np.repeat(np.arange(30), 10)
    labels, probabilities = labels[copies * 10], probabilities[copies * 10]  # ten copies of one image in each group
    by_group = measure(labels, probabilities, groups, CLASSES, resamples=400)["accuracy"]
    by_image = measure(labels, probabilities, np.arange(300), CLASSES, resamples=400)["accuracy"]
    ratio = (by_group["high"] - by_group["low"]) / (by_image["high"] - by_image["low"])
    assert 0.75 * 10**0.5 < ratio < 1.3 * 10**0.5


def test_the_difference_of_two_models_covers_the_truth() -> None:
    """150 groups of 4; champion right in 70 % of the groups, challenger in 80 %: the true difference is 0.1."""
    random, covered = np.random.default_rng(13), 0
    for _ in range(200):
        first, second = (np.repeat(random.random(150) < share, 4)[:, None] for share in (0.7, 0.8))
        champion, challenger = (np.where(right, [0.9, 0.1], [0.1, 0.9]) for right in (first, second))
        difference = compare_models(np.zeros(600, int), champion, challenger, np.arange(600) // 4)["difference"]
        covered += difference["low"] <= 0.1 <= difference["high"]
    assert 180 <= covered <= 199


def test_two_models_are_compared_pair_by_pair() -> None:
    """9 images of 20 tell them apart, 8 for the challenger: p = 2 · (C(9,0) + C(9,1)) / 2^9 = 0.0390625."""
    labels = np.zeros(20, int)
    champion, challenger = np.tile([0.8, 0.2], (20, 1)), np.tile([0.8, 0.2], (20, 1))
    champion[:8], challenger[8] = [0.2, 0.8], [0.2, 0.8]
    found = strict(compare_models(labels, champion, challenger, np.arange(20)))
    assert (found["only_champion_right"], found["only_challenger_right"]) == (1, 8)
    assert found["p_value"] == pytest.approx(0.0390625)
    assert found["difference"]["value"] == pytest.approx(7 / 20)
    assert found["difference"]["low"] > 0
    assert found["challenger_accuracy"] - found["champion_accuracy"] == pytest.approx(7 / 20)


def test_a_model_compared_with_itself_differs_in_nothing() -> None:
    labels, probabilities, groups = simulate(60)
    found = compare_models(labels, probabilities, probabilities, groups)
    assert (found["difference"]["value"], found["p_value"]) == (0, 1)
    assert found["difference"]["low"] is None
    assert found["difference"]["reason"]


def only(labels: np.ndarray, kept: np.ndarray) -> Images:
    images, probabilities, groups = simulate()
    rows = np.flatnonzero(np.isin(images, labels))[kept]
    return images[rows], probabilities[rows], groups[rows]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (simulate(0), "no images"),
        (simulate(1), "at least two groups"),
        ((simulate()[0], simulate()[1], np.zeros(600, int)), "at least two groups"),
        (only(np.array([0, 1, 2]), np.arange(300)), "no images of pituitary"),
        (only(np.array([2]), np.arange(40)), "no images of another class than notumor"),
        (
            (np.arange(40) % 4, np.eye(4)[np.zeros(40, int)], np.arange(40)),
            "nothing was predicted as glioma|nothing was predicted as",
        ),
        ((np.arange(40) % 4, np.eye(4)[np.arange(40) % 4], np.arange(40)), "Wilson's interval over the 40 groups"),
        ((np.arange(40) % 4, np.eye(4)[(np.arange(40) + 1) % 4], np.arange(40)), "Wilson's interval over the 40 groups"),
    ],
    ids=["none", "one", "one group", "class absent", "one class", "always glioma", "all right", "all wrong"],
)
def test_what_does_not_exist_is_null_with_its_reason(images: Images, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = strict(measure(*images, CLASSES, temperature=1.3, resamples=100))
    found = figures(record)
    assert len(found) == 4 + 4 * 4 + 2 * 3 + (4 if len(images[0]) else 0)
    for one in found:
        assert (None in (one["value"], one["low"], one["high"])) <= bool(one["reason"])
        if one["value"] is not None and one["low"] is not None:
            assert one["low"] <= one["value"] + 1e-9
            assert one["value"] <= one["high"] + 1e-9
    assert any(part in (one["reason"] or "") for one in found for part in words.split("|"))


def test_a_class_without_images_is_named_and_left_out_of_the_means() -> None:
    labels, probabilities, groups = only(np.array([0, 1, 2]), np.arange(300))
    record = measure(labels, probabilities, groups, CLASSES, resamples=100)
    assert record["absent_classes"] == ["pituitary"]
    each = [row["sensitivity"]["value"] for row in record["by_class"][:3]]
    assert record["balanced_accuracy"]["value"] == pytest.approx(np.mean(each))
    assert record["auroc"]["value"] == pytest.approx(np.mean([row["auroc"]["value"] for row in record["by_class"][:3]]))


def test_the_same_images_give_the_same_intervals_in_any_order() -> None:
    labels, probabilities, groups = simulate(90)
    order = np.random.default_rng(1).permutation(90)
    one = measure(labels, probabilities, groups, CLASSES, resamples=100)
    two = measure(labels[order], probabilities[order], groups[order], CLASSES, resamples=100)
    for first, second in zip(figures(one), figures(two), strict=True):
        assert first["low"] == pytest.approx(second["low"])
        assert first["high"] == pytest.approx(second["high"])


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups", "words"),
    [
        ([0, 1], [[1, 0, 0, 0]], [0, 1], "are needed"),
        ([4], [[1, 0, 0, 0]], [0], "labels are 0 to 3"),
        ([0], [[math.nan, 0, 0, 0]], [0], "not finite"),
        ([0], [[-0.1, 1.1, 0, 0]], [0], "negative"),
    ],
)
def test_what_does_not_fit_together_is_refused(labels: list, probabilities: list, groups: list, words: str) -> None:
    with pytest.raises(MetricsError, match=words):
        measure(np.array(labels), np.array(probabilities), np.array(groups), CLASSES)


def test_the_most_confident_are_kept_and_their_accuracy_is_theirs_alone() -> None:
    confidence = np.linspace(0.5, 1, 200)
    probabilities = np.column_stack([confidence, 1 - confidence])
    labels = (np.arange(200) < 20).astype(int)  # the twenty least confident are wrong
    rows = measure(labels, probabilities, np.arange(200), ("a", "b"), resamples=200)["risk_coverage"]
    assert [(row["coverage"], row["images"], row["accuracy"]["value"]) for row in rows] == [
        (1.0, 200, 0.9),
        (0.95, 190, 180 / 190),
        (0.9, 180, 1.0),
        (0.8, 160, 1.0),
    ]
    assert rows[0]["accuracy"]["low"] < 0.9 < rows[0]["accuracy"]["high"]
    assert measure(labels[:0], probabilities[:0], labels[:0], ("a", "b"))["risk_coverage"] == []
