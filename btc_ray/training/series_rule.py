"""Fitting the rule for series: four candidates, chosen and measured by cross-validation over patients.

What is told of the rule comes from an outer cross-validation in which the choice among the candidates is made anew in every fold, so
that neither the weights nor the choice have seen the patients that they are measured on. The rule itself is then fitted on all.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from btc_ray.errors import UserError
from btc_ray.studies.rule import KINDS, of_kind

FEWEST_PATIENTS = 30  # with a tumour, and as many without: below, an interval of sensitivity is wider than 0.2 either way
FOLDS = 5
_PENALTY = 1.0  # C of scikit-learn: on the squared weights of standardised features, beside a loss that is summed over the exams


class TooFewPatientsError(UserError):
    """Labelled patients that are too few to fit a rule on."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Attributes:
    kind, weights, intercept: the rule, fitted on all; see `studies.rule.SeriesRule`.
    probabilities: float64 (N,), of each exam by a rule that was chosen and fitted without its patient.
    losses: cross-validated cross-entropy of each candidate, both sides weighted equally; the smallest is chosen.
    """

    kind: str
    weights: tuple[float, ...]
    intercept: float
    probabilities: np.ndarray
    losses: dict[str, float]


def fit_rule(features: np.ndarray, tumour: np.ndarray, patients: np.ndarray, *, seed: int = 0) -> Fitted:
    """Fit a rule.

    Args:
        features: float64 (N, 4) of `studies.rule.FEATURES`, a row an exam.
        tumour: bool (N,).
        patients: int (N,), equal for exams of one patient.

    Raises TooFewPatientsError below 30 patients with a tumour and 30 without; who had both counts as one with.
    """
    ill = np.unique(patients[tumour])
    well = np.setdiff1d(np.unique(patients), ill)
    if min(len(ill), len(well)) < FEWEST_PATIENTS:
        raise TooFewPatientsError(
            f"a rule needs at least {FEWEST_PATIENTS} labelled patients with a tumour and {FEWEST_PATIENTS} without, whose series can be "
            f"judged and did not train the model; there are {len(ill):,} and {len(well):,}."
        )
    probabilities = np.empty(len(tumour))
    for learn, held_out in _folds(tumour, patients, seed):
        losses = _losses(features[learn], tumour[learn], patients[learn], seed)
        fitted = _fit(_best(losses), features[learn], tumour[learn], patients[learn])
        probabilities[held_out] = _predict(_best(losses), fitted, features[held_out])
    losses = _losses(features, tumour, patients, seed)
    weights, intercept = _of_plain_features(_fit(_best(losses), features, tumour, patients))
    return Fitted(
        kind=_best(losses),
        weights=weights,
        intercept=intercept,
        probabilities=probabilities,
        losses=losses,
    )


def _best(losses: dict[str, float]) -> str:
    return min(losses, key=lambda kind: losses[kind])  # of equal ones the simplest, which stands first


def _folds(tumour: np.ndarray, patients: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows held out, no patient on both sides; every fold has its share of both kinds of patients."""
    random = np.random.default_rng(seed)
    names, of = np.unique(patients, return_inverse=True)
    order = random.permutation(len(names))
    order = order[np.argsort(~np.isin(names, patients[tumour])[order], kind="stable")]  # with a tumour first
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return [(np.flatnonzero(fold[of] != number), np.flatnonzero(fold[of] == number)) for number in range(FOLDS)]


def _losses(features: np.ndarray, tumour: np.ndarray, patients: np.ndarray, seed: int) -> dict[str, float]:
    """Cross-validated cross-entropy of each candidate, in nats."""
    weight = _weights(tumour, patients)
    folds = _folds(tumour, patients, seed + 1)
    found = {}
    for kind in KINDS:
        probability = np.empty(len(tumour))
        for learn, held_out in folds:
            probability[held_out] = _predict(
                kind, _fit(kind, features[learn], tumour[learn], patients[learn]), features[held_out]
            )
        of_truth = np.clip(np.where(tumour, probability, 1 - probability), 1e-9, None)
        found[kind] = float(-(weight * np.log(of_truth)).sum() / weight.sum())
    return found


def _fit(kind: str, features: np.ndarray, tumour: np.ndarray, patients: np.ndarray) -> Pipeline:
    """A ridge logistic regression of the kind's features, standardised."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, tol=1e-6, max_iter=1000))
    return model.fit(of_kind(kind, features), tumour, logisticregression__sample_weight=_weights(tumour, patients))


def _of_plain_features(model: Pipeline) -> tuple[tuple[float, ...], float]:
    """Weights and intercept for features as they are: W (x − m) / d + b = (W / d) x + (b − (W / d) m)."""
    scaler, regression = model[0], model[1]
    weights = regression.coef_[0] / scaler.scale_
    return tuple(weights.tolist()), float(regression.intercept_[0] - weights @ scaler.mean_)


def _predict(kind: str, model: Pipeline, features: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict_proba(of_kind(kind, features))[:, 1])


def _weights(tumour: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """float64 (N,): every patient counts once however many exams there are, and both sides as much as each other; N in all."""
    _, of, exams = np.unique(patients, return_inverse=True, return_counts=True)
    each = 1 / exams[of]
    sides = np.where(tumour, each[tumour].sum(), each[~tumour].sum())
    return each / sides * len(tumour) / 2
