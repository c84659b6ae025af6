"""The rule for series: fitted by patient, measured on patients that it has not seen, refused where they are too few."""

import numpy as np
import pytest

from btc_ray.reports.evaluation.series_rule import in_words, is_better_than_chance, measured
from btc_ray.studies.rule import FEATURES, KINDS, RuleError, SeriesRule, check_model, features_of, read_rule
from btc_ray.training.series_rule import Fitted, TooFewPatientsError, _fit, _of_plain_features, _predict, fit_rule


def exams(patients: int, *, each: int = 1, signal: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of FEATURES, labels and patients; every second patient has a tumour, and `signal` raises the share of their slices."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), each)
    tumour = of % 2 == 0
    features = random.uniform(0.2, 0.6, (len(of), len(FEATURES)))
    features[:, FEATURES.index("share")] += signal * tumour
    return features, tumour, of


@pytest.mark.parametrize(("ill", "well"), [(29, 40), (40, 29), (0, 60)])
def test_fewer_than_thirty_patients_on_either_side_are_refused_with_their_number(ill: int, well: int) -> None:
    tumour = np.arange(2 * (ill + well)) < 2 * ill  # two exams of each patient: exams do not stand for patients
    features = np.zeros((len(tumour), len(FEATURES)))
    with pytest.raises(TooFewPatientsError, match=f"there are {ill} and {well}"):
        fit_rule(features, tumour, np.arange(len(tumour)) // 2)


def test_the_feature_that_tells_is_the_one_that_is_chosen() -> None:
    fitted = fit_rule(*exams(80, signal=0.5))
    assert fitted.kind == "share"
    assert fitted.losses["share"] < min(fitted.losses[kind] for kind in ("mean", "run"))
    assert fitted.weights[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_of_plain_features_says_what_was_fitted_on_standardised_ones(kind: str) -> None:
    features, tumour, patients = exams(80, signal=0.2)
    features[:, 0] *= 40  # of another scale
    model = _fit(kind, features, tumour, patients)
    weights, intercept = _of_plain_features(model)
    rule = SeriesRule(kind=kind, weights=weights, intercept=intercept, healthy="notumor", model_id="m", preprocess_id="p")
    assert rule.probability(features) == pytest.approx(_predict(kind, model, features), abs=1e-9)


def test_features_that_tell_nothing_give_no_better_than_chance_on_patients_that_were_not_seen() -> None:
    for seed in range(3):
        features, tumour, patients = exams(70, seed=seed)
        record = measured(fit_rule(features, tumour, patients).probabilities, tumour, patients)
        assert not is_better_than_chance(record)


def test_exams_of_a_patient_are_answered_by_a_rule_that_did_not_see_the_patient() -> None:
    """Copies of a patient's exam would give the label away: with features that are the patient's own and tell nothing, they must not."""
    features, tumour, patients = exams(70, seed=1)
    features, tumour, patients = (np.repeat(values, 8, axis=0) for values in (features, tumour, patients))
    probabilities = fit_rule(features, tumour, patients).probabilities
    assert not is_better_than_chance(measured(probabilities, tumour, patients))


def test_a_patient_of_many_exams_counts_once() -> None:
    features, tumour, patients = exams(70, signal=0.5)
    again = np.concatenate([np.arange(70), np.full(500, 3)])  # one patient without a tumour 500 times more
    once, often = fit_rule(features, tumour, patients), fit_rule(features[again], tumour[again], patients[again])
    assert abs(_half(once) - _half(often)) < 0.05


def _half(fitted: Fitted) -> float:
    """Where a rule of one feature is undecided."""
    return -fitted.intercept / fitted.weights[0]


def test_figures_have_intervals_by_patient() -> None:
    features, tumour, patients = exams(80, each=3, signal=0.3)
    record = measured(fit_rule(features, tumour, patients).probabilities, tumour, patients)
    assert (record["exams"], record["patients"], record["patients_with_tumour"]) == (240, 80, 40)
    for name in ("sensitivity", "specificity", "auroc"):
        assert record[name]["low"] < record[name]["value"] < record[name]["high"]
    assert is_better_than_chance(record)
    assert len(in_words(record)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_says_what_its_fit_said(kind: str) -> None:
    weights = tuple(1.0 + number for number in range(len(KINDS[kind])))
    rule = SeriesRule(kind=kind, weights=weights, intercept=-0.5, healthy="notumor", model_id="m", preprocess_id="p")
    assert read_rule(rule.to_dict(), source="x") == rule
    features = exams(5)[0]
    used = features[:, [FEATURES.index(name) for name in KINDS[kind]]]
    assert rule.probability(features) == pytest.approx(1 / (1 + np.exp(0.5 - used @ np.array(weights))))


@pytest.mark.parametrize("change", [{"kind": "max"}, {"weights": [1.0, 2.0]}, {"intercept": float("nan")}, {"weights": "1"}])
def test_a_damaged_rule_is_told(change: dict[str, object]) -> None:
    rule = SeriesRule(kind="mean", weights=(1.0,), intercept=0.0, healthy="notumor", model_id="m", preprocess_id="p")
    with pytest.raises(RuleError, match="damaged"):
        read_rule({**rule.to_dict(), **change}, source="x")


def test_a_rule_of_another_model_is_refused() -> None:
    rule = SeriesRule(kind="mean", weights=(1.0,), intercept=0.0, healthy="notumor", model_id="m", preprocess_id="p")
    check_model(rule, model_id="m", preprocess_id="p", classes=("glioma", "notumor"))
    with pytest.raises(RuleError, match="of model m"):
        check_model(rule, model_id="other", preprocess_id="p", classes=("glioma", "notumor"))


def test_features_are_over_the_used_slices() -> None:
    rows = {"mean_tumour": [0.6], "share_tumour": [0.5], "longest_run": [4], "n_used": [10], "slices": [40]}
    assert features_of({name: np.array(values, float) for name, values in rows.items()}).tolist() == [[0.6, 0.5, 0.4, 0.25]]
