"""What review.json holds: the counts of a worklist, what the decisions rest on, and how the run compares with the validation images,
in numbers and in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.model.bundle import Bundle
from btc_ray.model.reference import ACCEPT, in_words
from btc_ray.reports.worklist.drift import population_stability
from btc_ray.reports.worklist.worklist import OTHER, STRANGE, SUSPECTED, TIERS, UNCERTAIN, UNSURE, Worklist, healthy_class

FOLDERS, CAUSES = 15, 20  # on the page and in the record


def describe_run(worklist: Worklist, bundle: Bundle, state: Mapping[str, Any], *, run_id: str, shown: int) -> dict[str, Any]:
    """The record of a review.

    Args:
        state: what `run.json` says; `run_id` tells this run from others.
        shown: how many rows the page has.
    """
    drift = _drift(worklist, bundle.decision)
    scored, healthy = sum(worklist.labels.values()), healthy_class(bundle.classes)
    return {
        "kind": "review",
        "run_id": run_id,
        "notice": NOT_FOR_DIAGNOSIS,
        "headline": _headline(worklist, scored, healthy),
        "lead": _lead(worklist, healthy),
        "warnings": _warnings(worklist, drift, scored),
        "images": worklist.rows,
        "scored": scored,
        "status": dict(worklist.status),
        "labels": [(name, worklist.labels[name]) for name in bundle.classes],
        "decisions": dict(worklist.decisions),
        "tiers": {name: worklist.tiers[name] for name in TIERS},
        "tier_names": list(TIERS),
        "tiles": _tiles(worklist, scored, healthy),
        "shown": shown,
        "shown_words": _shown(worklist, scored, shown),
        "sample": worklist.sample.record(),
        "heat_cells": -(-int(bundle.preprocess["size"]) // 32),
        "confidence": {"here": worklist.confidence.tolist(), "validation": bundle.decision.get("confidence")},
        "drift": drift,
        "decision": _decision(bundle.decision),
        "folders": [
            {"folder": folder, "suspected": worklist.ill[folder], "scored": worklist.folders[folder]}
            for folder in worklist.ranked_folders()[:FOLDERS]
        ],
        "causes": worklist.causes.listed()[:CAUSES],
        "model": {
            "model_id": bundle.model_id,
            "preprocess_id": bundle.preprocess_id,
            "classes": list(bundle.classes),
            "columns": list(bundle.probability_columns),
        },
        "facts": _facts(bundle, state),
    }


def _shown(worklist: Worklist, scored: int, shown: int) -> str:
    sample = worklist.sample.record()
    drawn = (
        "" if sample is None else f" {sample['rows']:,} of all {sample['of']:,} are drawn at random (why here: random sample)."
    )
    if shown >= scored:
        return f"All {scored:,} scored images.{drawn}"
    kinds = "of each kind the most urgent" + (" and a random sample" if drawn else "")
    return f"{shown:,} of {scored:,} scored images, {kinds}; the whole is in the table of scores.{drawn}"


def _lead(worklist: Worklist, healthy: str | None) -> str:
    if worklist.teaching is not None:
        return "What would teach a model most first: images that this one is unsure of, each unlike those before it."
    first = "Suspected tumours first, the most probable before the others" if healthy else "What the model is sure of first"
    return f"{first}; then what it is not sure of; then what looks like nothing it learned from; then the rest."


def _headline(worklist: Worklist, scored: int, healthy: str | None) -> str:
    if not scored:
        return "No image was scored"
    if healthy is None:
        return f"{scored:,} images scored, {worklist.tiers[UNCERTAIN]:,} of them uncertain"
    found = scored - worklist.labels[healthy]
    return f"A tumour is the likeliest answer for {found:,} of {scored:,} images"


def _tiles(worklist: Worklist, scored: int, healthy: str | None) -> list[tuple[str, int, str]]:
    words = {
        SUSPECTED: "a tumour, and the model is sure" if healthy else "the model is sure of its answer",
        UNCERTAIN: "to be looked at by a person",
        STRANGE: "like nothing it learned from",
        OTHER: "no tumour, and the model is sure",
    }
    tiles = [(name.capitalize(), worklist.tiers[name], words[name]) for name in TIERS]
    bad = worklist.rows - scored
    return [*tiles, ("Not scored", bad, "each a row with its reason")] if bad else tiles


def _drift(worklist: Worklist, decision: Mapping[str, Any]) -> dict[str, Any]:
    """Feature distances and confidences of the run beside the validation images'."""
    images = decision.get("validation", {}).get("images", 0)
    distance = population_stability(np.full(10, images / 10), worklist.distance)
    there = np.array(decision.get("confidence", np.zeros_like(worklist.confidence)))
    confidence = population_stability(there, worklist.confidence)
    why = (
        "No row of this run has a feature distance."
        if decision
        else "The bundle does not say what its validation images were like."
    )
    index = distance["index"]
    tenths = [f"tenth {number}" for number in range(1, 11)]
    steps = [f"{5 * number} to {5 * number + 5} %" for number in range(len(worklist.confidence))]
    return {
        "distance": distance,
        "confidence": confidence,
        "unknown": why if index is None else "",
        "bars": _bars(tenths, worklist.distance, np.ones(10)),
        "confidence_bars": _bars(steps, worklist.confidence, there),
        "words": ""
        if index is None
        else f"Population stability index {index:.2f}: below 0.1 is no shift, above 0.25 a large one; {distance['chance']:.2f} happens by "
        f"chance in one of twenty such runs. Measured against {images:,} validation images.",
        "confidence_words": "" if confidence["index"] is None else f"Population stability index {confidence['index']:.2f}.",
    }


def _bars(names: Sequence[str], here: np.ndarray, there: np.ndarray) -> list[dict[str, Any]]:
    """Shares of the run and of the validation images in each bin, and the highest of them all."""
    shares = [counts / max(1, counts.sum()) for counts in (here, there)]
    highest = max(float(np.max(shares)), 1e-9)
    return [
        {"name": name, "here": float(run), "there": float(validation), "highest": highest}
        for name, run, validation in zip(names, *shares, strict=True)
    ]


def _warnings(worklist: Worklist, drift: Mapping[str, Any], scored: int) -> list[str]:
    found = []
    verdict = drift["distance"]["verdict"]
    if verdict in ("some", "large"):
        found.append(
            f"These images lie {'far from' if verdict == 'large' else 'somewhat apart from'} those that the model was validated on "
            f"(population stability index {drift['distance']['index']:.2f}). Its accuracy there says little about its accuracy here: "
            "measure it on labelled images of this archive."
        )
    if scored and worklist.tiers[STRANGE] > 0.1 * scored:
        found.append(f"{worklist.tiers[STRANGE] / scored:.0%} of the images look like nothing the model learned from.")
    if scored and worklist.decisions and not worklist.decisions[ACCEPT]:
        found.append("No answer is accepted by the thresholds of the bundle: all of them are for a person to look at.")
    if worklist.rows > scored:
        found.append(f"{worklist.rows - scored:,} of {worklist.rows:,} images could not be scored; their causes are at the end.")
    return found


def _decision(decision: Mapping[str, Any]) -> dict[str, Any]:
    if not decision:
        return {}
    names = ("accept_confidence", "accept_distance", "reject_distance", "target_risk", "risk_coverage", "validation")
    kept = {name: decision[name] for name in names if name in decision}  # bundles of before do not have all of them
    return {"risk_coverage": [], **kept, "words": in_words(decision)}


def _facts(bundle: Bundle, state: Mapping[str, Any]) -> dict[str, str]:
    fingerprint = state.get("fingerprint") or {}
    unsure = {} if bundle.decision else {"Uncertain": f"confidence below {UNSURE}, since the bundle has no thresholds"}
    return {
        "Inputs": ", ".join(fingerprint.get("inputs") or ["not recorded"]),
        "Finished": str(state.get("finished") or "not recorded"),
        "Model": f"{bundle.model_id}, trained {bundle.created or 'at an unknown time'}",
        "Preprocessing": bundle.preprocess_id,
        "Engine": f"{fingerprint.get('engine', 'not recorded')}, {fingerprint.get('precision', 'not recorded')}",
        **unsure,
    }
