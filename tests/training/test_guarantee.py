"""A label is taken only where held-out patients show that few such labels are wrong, however the images of one patient hang together."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2

from btc_ray.training.guarantee import NOTHING, Guarantee, HeldOut, choose_confidence, upper_bound
from btc_ray.training.held_out import HeldOutError, held_out_answers
from btc_ray.training.thresholds import choose_thresholds
from tests.training.clustered import ANSWERS, draw, realised

TARGET, DRAWS = 0.02, 200


def ones(count: int, wrong: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(count, int), (np.arange(count) < wrong).astype(int)


@pytest.mark.parametrize("wrong", [0, 1, 5, 40])
def test_with_one_image_a_patient_the_bound_is_the_exact_poisson_one(wrong: int) -> None:
    assert upper_bound(*ones(1000, wrong)) == pytest.approx(chi2.ppf(0.95, 2 * (wrong + 1)) / 2 / 1000)


def test_images_of_one_patient_count_as_one_observation() -> None:
    none = np.zeros(100, int)
    assert upper_bound(np.full(100, 20), none) == pytest.approx(upper_bound(*ones(100)))
    assert upper_bound(np.array([1900, *[1] * 99]), none) > upper_bound(np.full(100, 20), none)


def test_errors_of_one_patient_weigh_more_than_as_many_of_several() -> None:
    accepted, one, several = np.full(200, 10), np.zeros(200, int), np.zeros(200, int)
    one[0], several[:10] = 10, 1
    assert upper_bound(accepted, one) > upper_bound(accepted, several) > several.sum() / accepted.sum()


def test_no_accepted_image_bounds_nothing() -> None:
    assert upper_bound(np.zeros(3, int), np.zeros(3, int)) == 1


def test_the_realised_risk_is_above_the_target_in_at_most_one_of_twenty_draws_of_patients() -> None:
    population = draw(np.random.default_rng(0), scale=40)
    random = np.random.default_rng(1)
    chosen = [choose_confidence(draw(random), target=TARGET) for _ in range(DRAWS)]
    above = sum(realised(population, found)[0] > TARGET for found in chosen)
    covered = np.mean([realised(population, found)[1] for found in chosen])
    assert above <= 0.05 * DRAWS  # no room for chance is needed: the bound is on the safe side
    assert covered > 0.4  # and no guarantee by taking nothing


def test_many_thresholds_are_tried_and_still_a_useless_model_is_taken_at_most_once_in_twenty() -> None:
    random = np.random.default_rng(2)
    taken = 0
    for _ in range(DRAWS):
        found = draw(random)
        wrong = random.random(len(found.units)) < 1.05 * TARGET  # the confidence says nothing, and the risk is above the target
        taken += choose_confidence(
            HeldOut(confidence=found.confidence, right=~wrong, units=np.arange(len(wrong)), candidates=found.candidates),
            target=TARGET,
        ).holds
    assert taken <= 0.05 * DRAWS + 3 * np.sqrt(0.05 * 0.95 * DRAWS)  # three standard errors of the count


def accepting(confidence: np.ndarray, right: np.ndarray, units: np.ndarray | None = None) -> Guarantee:
    count = len(right)
    return choose_confidence(
        HeldOut(
            confidence=confidence,
            right=right,
            units=np.arange(count) if units is None else units,
            candidates=np.ones(count, bool),
        ),
        target=0.01,
    )


def test_as_many_images_of_few_patients_are_too_few_and_the_reason_says_so() -> None:
    confidence, right = np.linspace(0.6, 1, 4000), np.ones(4000, bool)
    assert accepting(confidence, right).holds
    found = accepting(confidence, right, np.arange(4000) % 100)
    assert found.confidence == NOTHING
    assert found.reason is not None
    assert found.reason.startswith("too few validation answers: with 4,000 images in 100 units")
    assert "3.00% even if none were wrong" in found.reason


def test_where_the_surest_are_wrong_nothing_is_taken_and_the_reason_says_so() -> None:
    random = np.random.default_rng(0)
    found = accepting(random.uniform(0.6, 1, 4000), random.random(4000) > 0.05)
    assert found.confidence == NOTHING
    assert found.reason is not None
    assert found.reason.startswith("too many wrong")


def test_without_a_candidate_nothing_is_taken() -> None:
    assert accepting(np.full(10, 0.4), np.ones(10, bool)).reason == (
        "no image is near enough and at least as likely of one class as of all others"
    )


def test_counts_are_those_of_the_threshold_chosen() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.3, 1, 6000)
    right = random.random(6000) < np.where(confidence > 0.8, 0.999, 0.7)
    found = accepting(confidence, right)
    taken = confidence >= found.confidence
    assert 0.75 < found.confidence < 0.85
    assert (found.accepted, found.wrong) == (taken.sum(), (taken & ~right).sum())
    assert found.wrong / found.accepted < found.upper_bound <= found.target_risk
    assert found.record()["holds"] is True


def test_a_bundle_goes_by_out_of_fold_answers_where_there_are_any() -> None:
    count = 4000
    few = choose_thresholds(*validation(200), units=np.arange(200) // 4, unit="patient")
    assert few["accept_confidence"] == NOTHING
    assert few["guarantee"]["reason"].startswith("too few validation answers")
    many = HeldOut(
        confidence=np.linspace(0.6, 1, count),
        right=np.ones(count, bool),
        units=np.arange(count),
        candidates=np.ones(count, bool),
        answers=ANSWERS,
    )
    found = choose_thresholds(*validation(200), units=np.arange(200) // 4, unit="patient", out_of_fold=many)
    assert found["accept_confidence"] == 0.6
    assert (found["guarantee"]["answers"], found["guarantee"]["accepted"]) == (ANSWERS, count)
    assert found["validation"]["images"] == 200
    assert found["accept_distance"] == few["accept_distance"]


def validation(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Answers that are all right: probabilities, distances, surrounds, labels."""
    return np.tile([0.9, 0.1], (count, 1)), np.arange(count, dtype=float), np.zeros(count), np.zeros(count, int)


def table(**changed: list[object]) -> pa.Table:
    columns = {
        "label": ["glioma", "no tumor", "glioma|meningioma"],
        "patient": ["p1", None, "p1"],
        "group": [5, 6, 7],
        "prob_glioma": [0.2, 0.1, 0.1],
        "prob_meningioma": [0.7, 0.0, 0.8],
        "prob_no_tumor": [0.1, 0.9, 0.1],
    }
    return pa.table(columns | changed)


def test_out_of_fold_answers_are_grouped_by_patient_and_else_by_copies() -> None:
    found = held_out_answers(table())
    assert found.right.tolist() == [False, True, True]
    assert found.confidence.tolist() == [0.7, 0.9, 0.8]
    assert found.units[0] == found.units[2] != found.units[1]
    assert found.unit == "patient (2 of 3 images), else group of copies"
    assert found.answers == ANSWERS


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (table().drop_columns(["group"]), "no group"),
        (table().drop_columns(["prob_glioma", "prob_meningioma"]), "one column of probabilities"),
        (table(label=["glioma", "no tumor", "knee"]), "'knee' has no column prob_knee"),
    ],
)
def test_another_table_is_told_by_what_it_lacks(broken: pa.Table, message: str) -> None:
    with pytest.raises(HeldOutError, match=message):
        held_out_answers(broken)
