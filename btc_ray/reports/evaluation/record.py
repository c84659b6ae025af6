"""Finished scores beside the truth: what each model is worth on each set of images, its errors, and the verdict in plain words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.dataset.several import named_classes
from btc_ray.model.bundle import Bundle
from btc_ray.model.reference import ACCEPT, REJECT, REVIEW
from btc_ray.reports.evaluation.sets import (
    ALL,
    BELIEVED,
    CLEAN,
    GROUP,
    NEW,
    PUBLISHED,
    SENTENCES,
    TITLES,
    ImageSet,
    Missing,
    TrainingOverlap,
    Truth,
)
from btc_ray.reports.shared.metrics import measure
from btc_ray.reports.shared.several import measure_several
from btc_ray.reports.shared.tally import Causes
from btc_ray.storage.redact import public_uri

ERRORS_SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_id", pa.string(), nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),  # of the model's run
        pa.field("uri", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("probability_of_label", pa.float32(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("sets", pa.list_(pa.string()), nullable=False),
        pa.field("copy_seen", pa.bool_()),  # a copy of it was trained on; null: not recorded
        pa.field("contradicting", pa.bool_(), nullable=False),  # a copy of it has another label
        pa.field("content_sha256", pa.string()),
    ]
)
"""One row per image that a model has wrong in at least one set, the most confident first."""


def assess(
    truth: Truth,
    sets: Sequence[ImageSet],
    missing: Sequence[Missing],
    scores: pa.Table,
    bundle: Bundle,
    *,
    name: str,
    overlap: TrainingOverlap | None = None,
) -> tuple[dict[str, Any], pa.Table]:
    """Measure one model.

    Args:
        scores: the table of its run; rows are found by `uri`.
        name: what the page calls the model.
        overlap: what it trained on; None where that is not recorded.

    Returns:
        The model's part of the record, and its errors as ERRORS_SCHEMA.
    """
    order = _positions(np.array([public_uri(uri) for uri in truth.uri], object), scores["uri"].to_pylist())
    status = np.array(["missing", *scores["status"].to_pylist()], object)[order + 1]
    ok = status == "ok"
    names = {which: number for number, which in enumerate(bundle.classes)}
    labels = np.array([names.get(label, -1) for label in truth.label], np.int64)
    columns = [scores[name].to_numpy(zero_copy_only=False) for name in bundle.probability_columns]
    probabilities = np.zeros((len(truth.uri), len(bundle.classes)))
    probabilities[ok] = np.column_stack(columns)[order[ok]]
    usable = ok & (labels >= 0)
    several = ok & np.isin(truth.label, [one for one in set(truth.label) if len(named_classes(one, bundle.classes)) > 1])
    measured = []
    for chosen in sets:
        rows = chosen.rows & usable
        unknown = Counter(truth.label[chosen.rows & ok & (labels < 0) & ~several].tolist())
        named = chosen.rows & (usable | several)
        measured.append(
            {
                "key": chosen.key,
                "title": TITLES[chosen.key],
                "sentence": SENTENCES[chosen.key],
                "images": int(chosen.rows.sum()),
                "not_ok": int((chosen.rows & ~ok).sum()),
                "labels_unknown_to_the_model": dict(sorted(unknown.items())),
                "trained_on": chosen.seen,
                "with_a_copy_trained_on": chosen.copy_seen,
                "contradicting_labels": chosen.contradicting,
                "left_out": chosen.left_out,
                "remarks": list(chosen.remarks),
                "metrics": measure(
                    labels[rows], probabilities[rows], truth.group[rows], bundle.classes, temperature=bundle.temperature
                ),
                "several": measure_several(truth.label[named].tolist(), probabilities[named], truth.group[named], bundle.classes),
                "decisions": _decisions(scores, order[rows], probabilities[rows].argmax(axis=1) == labels[rows]),
            }
        )
    wanted = np.any([chosen.rows for chosen in sets], axis=0) if sets else np.zeros(len(labels), bool)
    errors = _errors(truth, sets, scores, bundle, name, overlap, order, np.flatnonzero(wanted & usable), labels, probabilities)
    record = {
        "name": name,
        "model_id": bundle.model_id,
        "preprocess_id": bundle.preprocess_id,
        "classes": list(bundle.classes),
        "temperature": bundle.temperature,
        "created": bundle.created or None,
        "git_commit": bundle.git_commit,
        "data_fingerprint": bundle.data.get("fingerprint"),
        "split": bundle.data.get("split"),
        "trained_on": None if overlap is None else overlap.trained_on,
        "scored": int((wanted & ok).sum()),
        "not_ok": _causes(truth, wanted & ~ok, scores, order),
        "errors": len(errors),
        "sets": measured,
        "missing": [
            {"key": gap.key, "title": TITLES[gap.key], "reason": gap.reason, "commands": gap.commands} for gap in missing
        ],
    }
    return record, errors


def _decisions(scores: pa.Table, places: np.ndarray, right: np.ndarray) -> dict[str, dict[str, int]]:
    """How many images each decision is of, and how many of them are right; empty where nothing was decided."""
    if "decision" not in scores.column_names:
        return {}
    said = np.array(scores["decision"].to_pylist(), object)[places]
    if not any(said):
        return {}
    return {
        name: {"images": int((said == name).sum()), "right": int((right & (said == name)).sum())}
        for name in (ACCEPT, REVIEW, REJECT)
    }


def no_scores(bundle: Bundle) -> pa.Table:
    """The scores of a model that no set asked anything of."""
    floats = [pa.field(name, pa.float32()) for name in bundle.probability_columns]
    texts = [pa.field(name, pa.string()) for name in ("uri", "status", "error", "label")]
    return pa.schema([pa.field("row_id", pa.int64()), *texts, pa.field("confidence", pa.float32()), *floats]).empty_table()


def _positions(wanted: np.ndarray, uris: Sequence[str]) -> np.ndarray:
    """int64 (N,): the row of each URI in the scores, −1 where there is none."""
    places = {uri: place for place, uri in enumerate(uris)}
    return np.array([places.get(uri, -1) for uri in wanted], np.int64)


def _errors(
    truth: Truth,
    sets: Sequence[ImageSet],
    scores: pa.Table,
    bundle: Bundle,
    name: str,
    overlap: TrainingOverlap | None,
    order: np.ndarray,
    candidates: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
) -> pa.Table:
    wrong = candidates[probabilities[candidates].argmax(axis=1) != labels[candidates]]
    confidence = probabilities[wrong].max(axis=1)
    wrong = wrong[np.lexsort((truth.uri[wrong].astype(str), -confidence))]
    row_id = scores["row_id"].to_numpy()
    return pa.Table.from_pylist(
        [
            {
                "model": name,
                "model_id": bundle.model_id,
                "row_id": int(row_id[order[row]]),
                "uri": truth.uri[row],
                "label": truth.label[row],
                "predicted": bundle.classes[int(probabilities[row].argmax())],
                "confidence": float(probabilities[row].max()),
                "probability_of_label": float(probabilities[row, labels[row]]),
                "group": int(truth.group[row]),
                "sets": [chosen.key for chosen in sets if chosen.rows[row]],
                "copy_seen": None if overlap is None else bool(overlap.copy_seen[row]),
                "contradicting": bool(truth.contradicting[row]),
                "content_sha256": truth.content_sha256[row],
            }
            for row in wrong.tolist()
        ],
        schema=ERRORS_SCHEMA,
    )


def _causes(truth: Truth, bad: np.ndarray, scores: pa.Table, order: np.ndarray) -> list[dict[str, Any]]:
    """Why images have no probabilities, the most frequent cause first."""
    status, error = scores["status"].to_pylist(), scores["error"].to_pylist()
    found = Causes()
    for row in np.flatnonzero(bad).tolist():
        place = int(order[row])
        said, why = (status[place], error[place]) if place >= 0 else ("missing", "the run has no row for it")
        found.add(said, why, str(truth.uri[row]))
    return found.listed()


# --- in words ------------------------------------------------------------------------------------------------------------------------

_FOUND_IN = {
    NEW: "{images} that are new to the model",
    GROUP: "{images} whose groups were held out whole",
    CLEAN: "{images} of the published test set that have no copy in training",
    PUBLISHED: "the {images} of the published test set",
    ALL: "{images}",
}


def compare_sets(models: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """`headline` and `text`: the number to believe, and what the published split measures; `models` as `assess` gives them."""
    best = next((found for key in BELIEVED if (found := _sets(models, key))), None)
    if best is None:
        return {"headline": "There is no number to be had from these images", "text": "Each missing number has its reason below."}
    best = [one for one in best if one["trained_on"] is not None] or best
    unknown = best[0]["trained_on"] is None
    where = _FOUND_IN[best[0]["key"]].format(images=_images(best))
    first = best[0]["metrics"]["accuracy"]
    headline = f"{_shares(best)} right on {where}"
    sentences = []
    if len(best) > 1:
        sentences.append(f"That is the range of {len(best)} models.")
    elif first["low"] is not None:
        sentences.append(f"The 95% interval is {first['low']:.1%} to {first['high']:.1%}, resampled by group.")
    absent = sorted({name for one in best for name in one["metrics"]["absent_classes"]})
    if absent:
        sentences.append(f"There are no images of {', '.join(absent)} among them: the number is of the other classes alone.")
    if unknown:
        sentences.append(
            "The bundle does not record which images it was trained on, so that this may be memory: whether it saw them is unknown."
        )
    sentences += [_about_published(one, best[0]["key"]) for one in _sets(models, PUBLISHED)[:1] if one["trained_on"] is not None]
    return {"headline": headline, "text": " ".join(sentences)}


def _about_published(published: Mapping[str, Any], headline: str) -> str:
    images, copied = published["images"], published["with_a_copy_trained_on"]
    if copied:
        begin = "This number" if headline == PUBLISHED else f"The published split gives {_shares([published])}, a number that"
        return (
            f"{begin} measures memory as well as skill: {copied:,} of its {images:,} test images ({copied / images:.1%}) have a copy "
            "among the images that the model trained on."
        )
    return f"None of the {images:,} published test images has a copy among those that the model trained on."


def _sets(models: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Sets of this kind that have a number."""
    found = [one for model in models for one in model["sets"] if one["key"] == key]
    return [one for one in found if one["metrics"]["accuracy"]["value"] is not None]


def _shares(sets: Sequence[Mapping[str, Any]]) -> str:
    shares = sorted(one["metrics"]["accuracy"]["value"] for one in sets)
    low, high = f"{shares[0]:.1%}", f"{shares[-1]:.1%}"
    return low if low == high else f"{low} to {high}"


def _images(sets: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted(one["metrics"]["images"] for one in sets)
    return f"{counts[0]:,} images" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,} images"
