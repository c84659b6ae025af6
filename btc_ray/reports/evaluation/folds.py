"""Out-of-fold answers as the record of an evaluation: every image by a model that never saw its patient, slice by slice and examination
by examination, beside what one split of these would have said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from btc_ray.model.bundle import Bundle
from btc_ray.model.reference import decide
from btc_ray.reports.evaluation.record import ERRORS_SCHEMA
from btc_ray.reports.evaluation.sets import EXAMINATIONS, SENTENCES, SLICES, TITLES
from btc_ray.reports.evaluation.sources import Elsewhere, assess_answers
from btc_ray.reports.shared.metrics import measure
from btc_ray.reports.shared.several import measure_several


def fold_record(
    answers: pa.Table,
    logits: np.ndarray,
    probabilities: np.ndarray,
    folds: Sequence[Mapping[str, Any]],
    bundle: Bundle,
    *,
    name: str,
) -> tuple[dict[str, Any], pa.Table]:
    """Measure out-of-fold answers.

    Args:
        answers: N rows with uri, group, patient, examination, label, fold, feature_distance, surround, content_sha256, row_id, source.
        logits, probabilities: float (N, classes); the latter are calibrated.
        folds: number (from 0), epoch, temperature and images of each training.
        bundle: what was trained on all of them afterwards.
        name: what the page calls it.

    Returns:
        `folds` (a row a training, with its accuracy), `model` and `verdict` as the page of an evaluation takes them; and the errors as
        ERRORS_SCHEMA.
    """
    classes = list(bundle.classes)
    by_source = _by_source(answers, probabilities, bundle)
    several = measure_several(answers["label"].to_pylist(), probabilities, answers["group"].to_numpy(), classes)
    of_one = np.isin(answers["label"].to_pylist(), classes)
    answers, logits, probabilities = answers.filter(pa.array(of_one)), logits[of_one], probabilities[of_one]
    labels = np.array([classes.index(label) for label in answers["label"].to_pylist()], np.int64)
    groups, fold = answers["group"].to_numpy(), answers["fold"].to_numpy()
    before = softmax(np.asarray(logits, np.float64), axis=1)
    slices = measure(labels, probabilities, groups, classes, uncalibrated_probabilities=before)
    sets = [_set(SLICES, slices, _remarks(answers), several)]
    units, contradicting = _units(answers)
    known = np.flatnonzero(units >= 0)
    if len(known):
        where, first = np.unique(units[known], return_index=True)
        means = [_mean_by(units[known], len(where), values[known]) for values in (probabilities, before)]
        said = [
            f"{len(where):,} examinations of {len(known):,} slices; {len(labels) - len(known):,} slices have no examination or patient"
        ]
        said += [f"{contradicting:,} of them have slices of several labels; the most frequent counts"] if contradicting else []
        majority = _majority(units[known], len(where), labels[known], len(classes))
        by_unit = measure(majority, means[0], groups[known][first], classes, uncalibrated_probabilities=means[1])
        sets.append(_set(EXAMINATIONS, by_unit, said))
    rows = []
    for training in folds:
        chosen = fold == training["number"]
        found = measure(labels[chosen], probabilities[chosen], groups[chosen], classes)
        rows.append(
            {**training, "groups": found["groups"], **{key: found[key] for key in ("accuracy", "balanced_accuracy", "auroc")}}
        )
    wrong = _errors(answers, labels, probabilities, bundle, name)
    model = {
        "name": name,
        "model_id": bundle.model_id,
        "preprocess_id": bundle.preprocess_id,
        "classes": classes,
        "temperature": float(np.mean([training["temperature"] for training in folds])),
        "created": bundle.created or None,
        "git_commit": bundle.git_commit,
        "data_fingerprint": bundle.data.get("fingerprint"),
        "split": bundle.data.get("split"),
        "trained_on": 0,
        "scored": len(labels),
        "not_ok": [],
        "errors": len(wrong),
        "sets": sets,
        "missing": [],
        "by_source": by_source,
    }
    return {
        "folds": rows,
        "model": model,
        "verdict": _verdict(sets, rows, patients=answers["patient"].null_count < len(answers)),
    }, wrong


def _by_source(answers: pa.Table, probabilities: np.ndarray, bundle: Bundle) -> list[dict[str, Any]]:
    """What was made of the images that name their source, by source, labels of several classes among them; `accept` is by the bundle's
    thresholds and the distances of the folds' own models."""
    named = answers["source"].is_valid()
    answers, probabilities = answers.filter(named), probabilities[np.asarray(named)]
    if not len(answers):
        return []
    distance, surround = (answers[name].to_numpy().astype(float) for name in ("feature_distance", "surround"))
    decisions = np.full(len(answers), None)
    if bundle.decision and not np.isnan(distance).any():
        decisions = decide(probabilities.max(axis=1), distance, surround, bundle.decision)
    asked = Elsewhere(
        **{name: np.array(answers[name].to_pylist(), object) for name in ("uri", "label", "source")},
        group=answers["group"].to_numpy(),
    )
    return assess_answers(asked, np.array(bundle.classes, object)[probabilities.argmax(axis=1)], decisions, bundle.classes)


def _set(
    key: str, metrics: Mapping[str, Any], remarks: Sequence[str], several: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "key": key,
        "title": TITLES[key],
        "sentence": SENTENCES[key],
        "images": metrics["images"],
        "not_ok": 0,
        "labels_unknown_to_the_model": {},
        "trained_on": 0,
        "with_a_copy_trained_on": 0,
        "contradicting_labels": 0,
        "left_out": {},
        "remarks": list(remarks),
        "metrics": metrics,
        "several": list(several),
        "decisions": {},
    }


def _remarks(answers: pa.Table) -> list[str]:
    patients = answers["patient"].drop_null()
    if not len(patients):
        return ["no image names its patient: the folds keep copies together, slices of one patient they may not"]
    return [
        f"{len(patients):,} of {len(answers):,} are of {len(patients.unique()):,} known patients; of the others only copies are known, and "
        "slices of one patient may be in several folds"
        if len(patients) < len(answers)
        else f"of {len(patients.unique()):,} patients, each in one fold"
    ]


def _units(answers: pa.Table) -> tuple[np.ndarray, int]:
    """The examination of each slice, or its patient where no examination is named: int64 (N,), −1 where neither is known; and how many
    of them have slices of several labels."""
    names = [
        (examination and f"examination {patient} {examination}") or (patient and f"patient {patient}")
        for examination, patient in zip(answers["examination"].to_pylist(), answers["patient"].to_pylist(), strict=True)
    ]
    number = {name: place for place, name in enumerate(dict.fromkeys(name for name in names if name))}
    units = np.array([number.get(name, -1) if name else -1 for name in names], np.int64)
    labels = Counter(
        unit for unit, _ in {(unit, label) for unit, label in zip(units.tolist(), answers["label"].to_pylist(), strict=True)}
    )
    return units, sum(1 for unit, several in labels.items() if unit >= 0 and several > 1)


def _mean_by(units: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """float64 (count, C): the mean of float (N, C) in each of the units 0 … count − 1."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, units, values)
    return sums / np.bincount(units, minlength=count)[:, None]


def _majority(units: np.ndarray, count: int, labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 (count,): the most frequent label of each unit, the first of equals."""
    return np.bincount(units * classes + labels, minlength=count * classes).reshape(count, classes).argmax(axis=1)


def _errors(answers: pa.Table, labels: np.ndarray, probabilities: np.ndarray, bundle: Bundle, name: str) -> pa.Table:
    confidence, said = probabilities.max(axis=1), probabilities.argmax(axis=1)
    wrong = np.flatnonzero(said != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    rows = answers.select(["uri", "label", "group", "content_sha256", "row_id"]).take(pa.array(wrong)).to_pylist()
    return pa.Table.from_pylist(
        [
            row
            | {
                "model": name,
                "model_id": bundle.model_id,
                "predicted": bundle.classes[int(said[place])],
                "confidence": float(confidence[place]),
                "probability_of_label": float(probabilities[place, labels[place]]),
                "sets": [SLICES],
                "copy_seen": False,
                "contradicting": False,
            }
            for row, place in zip(rows, wrong.tolist(), strict=True)
        ],
        schema=ERRORS_SCHEMA,
    )


def _verdict(sets: Sequence[Mapping[str, Any]], folds: Sequence[Mapping[str, Any]], *, patients: bool) -> dict[str, str]:
    """The number to believe, and how far one split alone would have been from it."""
    accuracy = sets[0]["metrics"]["accuracy"]
    text = []
    if accuracy["low"] is not None:
        text.append(
            f"The 95% interval is {accuracy['low']:.1%} to {accuracy['high']:.1%}, resampled by patient (by copies where none is known)."
        )
    if len(sets) > 1:
        found = sets[1]["metrics"]
        text.append(
            f"By the mean of an examination's slices {found['accuracy']['value']:.1%} of {found['images']:,} examinations are right."
        )
    each = sorted(row["accuracy"]["value"] for row in folds)
    text.append(f"One split alone, with one fold held out, would have said anything from {each[0]:.1%} to {each[-1]:.1%}.")
    text.append(
        "The bundle itself learned from all of these images; it is one model more of the same recipe, with more to learn from."
    )
    return {
        "headline": f"{accuracy['value']:.1%} right on {sets[0]['metrics']['images']:,} images, each by a model that never saw "
        + ("its patient" if patients else "a copy of it"),
        "text": " ".join(text),
    }
