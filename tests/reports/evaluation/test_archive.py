"""Answers about a few images say how good a model is on all of them: without bias, and within intervals that hold what they promise."""

from collections.abc import Iterator

import numpy as np
import pytest

from btc_ray.reports.evaluation.archive import NO_HEAD, NOT_SURE, of_sample, read_whole, weighted
from btc_ray.reports.worklist.sample import random_numbers

CLASSES = ("glioma", "meningioma", "notumor")
IMAGES, DRAWN, SIMULATIONS = 2000, 200, 400
# Of 400 simulations of a 95% interval 95 % of the times from 93 to 97 cover; a sample without replacement makes it a little wider.
COVERAGE = (0.925, 0.985)


def archive(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, truth and confidences of an archive: one image in ten is wrong, and of the uncertain ones four in ten are."""
    random = np.random.default_rng([7, seed])
    truth = random.choice(3, IMAGES, p=[0.2, 0.1, 0.7])
    confidence = random.random(IMAGES)
    wrong = random.random(IMAGES) < np.where(confidence < 0.2, 0.4, 0.025)
    return np.where(wrong, (truth + random.integers(1, 3, IMAGES)) % 3, truth), truth, confidence


def drawn(seed: int) -> np.ndarray:
    """bool (IMAGES,): as `btc-ray review --sample` draws."""
    found = np.zeros(IMAGES, bool)
    found[np.argsort(random_numbers(np.arange(IMAGES), seed))[:DRAWN]] = True
    return found


def simulations() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Draws from one archive: predictions, truth, confidences, and what is drawn."""
    predicted, truth, confidence = archive(0)
    for seed in range(SIMULATIONS):
        yield predicted, truth, confidence, drawn(seed)


def test_the_interval_of_a_random_sample_covers_the_archive_in_about_95_of_100_simulations() -> None:
    covered = {"accuracy": 0, "sensitivity": 0, "share": 0}
    estimates = []
    for predicted, truth, _, sample in simulations():
        found = of_sample(predicted[sample], truth[sample], CLASSES)
        glioma = found["by_class"][0]
        truths = {
            "accuracy": (found["accuracy"], (predicted == truth).mean()),
            "sensitivity": (glioma["sensitivity"], (predicted == 0)[truth == 0].mean()),
            "share": (glioma["share"], (truth == 0).mean()),
        }
        for name, (figure, value) in truths.items():
            covered[name] += figure["low"] <= value <= figure["high"]
        estimates.append(found["accuracy"]["value"])
    for name, times in covered.items():
        assert COVERAGE[0] <= times / SIMULATIONS <= COVERAGE[1], name
    assert np.mean(estimates) == pytest.approx((predicted == truth).mean(), abs=4 * np.std(estimates) / np.sqrt(SIMULATIONS))


def test_what_the_worklist_chose_is_no_estimate_and_beside_a_sample_it_is_and_a_narrower_one() -> None:
    covered, estimates, widths = 0, [], []
    for predicted, truth, confidence, sample in simulations():
        certain = confidence < 0.2  # the worklist: what the model is not sure of, read whole
        rows = certain | sample
        found = weighted(predicted[rows], truth[rows], certain[rows], IMAGES, CLASSES, resamples=2)["accuracy"]
        alone = of_sample(predicted[sample], truth[sample], CLASSES)["accuracy"]
        right = (predicted == truth).mean()
        covered += found["low"] <= right <= found["high"]
        estimates.append(found["value"])
        widths.append((found["high"] - found["low"]) / (alone["high"] - alone["low"]))
    assert COVERAGE[0] <= covered / SIMULATIONS <= COVERAGE[1]
    assert np.mean(estimates) == pytest.approx(right, abs=4 * np.std(estimates) / np.sqrt(SIMULATIONS))
    assert np.mean(widths) < 0.8
    assert (predicted == truth)[certain].mean() < right - 0.2


def test_a_reader_who_reads_the_sample_alone_biases_nothing() -> None:
    """Rows of the worklist that are answered since they were drawn do not count as read whole."""
    predicted, truth, confidence = archive(1)
    place = np.full(IMAGES, np.nan)
    listed = np.argsort(confidence)[:1000]
    place[listed] = np.arange(1000)
    tier = np.full(IMAGES, "uncertain", object)
    estimates = []
    for seed in range(SIMULATIONS):
        sample = drawn(seed)
        certain = read_whole(place, tier, sample, sample)
        assert not certain.any()
        estimates.append(
            weighted(predicted[sample], truth[sample], certain[sample], IMAGES, CLASSES, resamples=2)["accuracy"]["value"]
        )
    assert np.mean(estimates) == pytest.approx((predicted == truth).mean(), abs=4 * np.std(estimates) / np.sqrt(SIMULATIONS))


def test_a_worklist_counts_as_read_up_to_its_first_gap_tier_by_tier() -> None:
    place = np.array([0, 1, 2, 3, 4, 5, 6, np.nan])
    tier = np.array(["a"] * 4 + ["b"] * 3 + ["a"], object)
    has_answer = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
    sample = np.array([0, 0, 1, 0, 0, 0, 1, 1], bool)
    assert read_whole(place, tier, has_answer, sample).tolist() == [True, True, False, False, True, True, True, False]


def test_a_worklist_that_is_read_to_its_end_counts_whole_and_one_that_is_all_drawn_does_not() -> None:
    place, tier, answered = np.array([0.0, 1.0, np.nan]), np.array(["a", "b", "a"], object), np.array([True, True, True])
    assert read_whole(place, tier, answered, np.array([False, True, True])).tolist() == [True, True, False]
    assert not read_whole(place, tier, answered, np.array([True, True, True])).any()


def test_no_heads_and_unsure_answers_are_counted_apart() -> None:
    found = of_sample(np.array([0, 1, 2, 2]), np.array([0, 2, NO_HEAD, NOT_SURE]), CLASSES)
    assert (found["images"], found["heads"], found["right"]) == (4, 2, 1)
    assert (found["not_a_head"]["value"], found["unsure"]["value"], found["accuracy"]["value"]) == (0.25, 0.25, 0.5)
    assert found["by_class"][1]["sensitivity"] == {"value": None, "low": None, "high": None, "reason": "no images of meningioma"}


def test_an_archive_that_is_read_whole_is_counted_and_not_estimated() -> None:
    predicted, truth, _ = archive(2)
    found = weighted(predicted, truth, np.ones(IMAGES, bool), IMAGES, CLASSES)
    right = (predicted == truth).mean()
    assert found["accuracy"] == {"value": right, "low": right, "high": right, "reason": None}
    by_class = {row["class"]: row["sensitivity"]["value"] for row in found["by_class"]}
    assert by_class["glioma"] == pytest.approx((predicted == 0)[truth == 0].mean())


def test_without_a_sample_nothing_is_said_of_what_was_not_read() -> None:
    predicted, truth, confidence = archive(3)
    certain = confidence < 0.2
    found = weighted(predicted[certain], truth[certain], certain[certain], IMAGES, CLASSES)["accuracy"]
    assert (found["value"], found["reason"]) == (None, "no row of the random sample stands for the images that were not read")


def test_without_answers_figures_carry_their_reasons() -> None:
    found = of_sample(np.zeros(0, int), np.zeros(0, int), CLASSES)
    assert found["accuracy"] == {"value": None, "low": None, "high": None, "reason": "no answer names a class"}
    assert found["not_a_head"]["reason"] == "no answers"
