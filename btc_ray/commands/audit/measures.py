"""The measurements of an audit: each takes the inputs, asks the review room, and returns its part of audit.json."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_ray import settings
from btc_ray.commands.audit.inputs import Inputs
from btc_ray.progress import say
from btc_ray.storage import Place

if TYPE_CHECKING:
    from btc_ray.reports.audit.label_doubts import Doubts
    from btc_ray.reports.audit.probes import Sides

VALIDATION, TEST = (
    settings.Training.validation,
    settings.Training.test,
)  # the split by group is that of `retrain`


def estimate_planes(work: Inputs) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities of the planes, float (M, 3), and what they are worth on phantoms."""
    from btc_ray.reports.audit.planes import fit_planes, plane_features

    if not len(work.readable):
        return np.zeros((0, 3)), {"on_phantoms": None}
    model = fit_planes(seed=work.chosen.seed)
    found = model.probabilities(plane_features(work.crops.pixels))
    return found, {"on_phantoms": {"accuracy": model.accuracy, "by_plane": model.by_plane}}


def doubt_labels(work: Inputs) -> "tuple[Doubts | None, dict[str, Any]]":
    """Labels in doubt, or None with the reason."""
    from btc_ray.reports.audit.label_doubts import doubtful_labels, held_out_probabilities

    if work.features is None:
        reason = "--weights none" if work.chosen.weights == "none" else "needs images of two classes"
        return None, {"reason": reason}
    say("Looking for labels that may be wrong …")
    groups = work.groups[work.readable]
    probabilities = held_out_probabilities(work.features, work.labels, groups, len(work.classes), seed=work.chosen.seed)
    if probabilities is None:
        return None, {"reason": "needs at least two groups of images of each class"}
    doubts = doubtful_labels(probabilities, work.labels)
    pairs = Counter(
        (work.classes[label], work.classes[other])
        for label, other in zip(work.labels.tolist(), doubts.suspected.tolist(), strict=True)
        if other >= 0
    )
    return doubts, {
        "images": len(work.labels),
        "agreement": float((probabilities.argmax(axis=1) == work.labels).mean()),
        "suspected": int((doubts.suspected >= 0).sum()),
        "pairs": [{"label": label, "suspected": other, "images": count} for (label, other), count in pairs.most_common()],
    }


def probe(work: Inputs) -> dict[str, Any]:
    """What little is enough to tell the class, on the published split and by group."""
    from btc_ray.reports.audit.probes import CLEAN, PUBLISHED, run_probes

    described = np.array(work.properties.table["format"].is_valid())[work.readable]  # read twice, and readable both times
    rows, labels = work.readable[described], work.labels[described]
    sides, missing, division = _sides(work, rows, labels)
    probes: list[dict[str, Any]] = []
    there: dict[str, dict[str, int]] = {}
    if sides:
        copied = np.isin(work.copies.groups[rows], work.copies.groups[rows][work.split[rows] == "train"])
        there = {name: {"train": int(side.train.sum()), "test": int(side.test.sum())} for name, side in sides.items()}
        if PUBLISHED in sides:
            there[CLEAN] = there[PUBLISHED] | {"test": int((sides[PUBLISHED].test & ~copied).sum())}
        drawn = {name: side.sample(seed=work.chosen.seed) for name, side in sides.items()}
        used = np.flatnonzero(np.any([side.train | side.test for side in drawn.values()], axis=0))
        probes = run_probes(
            work.properties.frames(rows[used]),
            work.properties.histograms(rows[used]),
            labels[used],
            work.groups[rows[used]],
            {name: side.of(used) for name, side in drawn.items()},
            copied[used],
            work.classes,
            seed=work.chosen.seed,
            announce=lambda title: say(f"Probe: {title} …"),
        )
    return {"probes": probes, "missing": missing, "there": there, "group_split": division}


def find_sources(work: Inputs) -> dict[str, Any]:
    """Classes by source, and whether the source can be told from border and histogram."""
    from btc_ray.reports.audit.probes import MOST_LEARNED
    from btc_ray.reports.audit.sources import class_by_source, tell_sources

    sources = np.array(work.table["source"].to_pylist(), object)
    found = class_by_source(work.table["label"].to_pylist(), sources.tolist())
    if not found["named"]:
        return found | {"reason": "the data names no source (a table with a column source does)"}
    described = np.array(work.properties.table["format"].is_valid())[work.readable]
    rows = work.readable[described & (work.table["source"].is_valid().to_numpy()[work.readable])]
    if len(rows) > MOST_LEARNED:
        rows = np.sort(np.random.default_rng(work.chosen.seed).choice(rows, MOST_LEARNED, replace=False))
    say("Can the source be told? …")
    frames, histograms = work.properties.frames(rows), work.properties.histograms(rows)
    return found | tell_sources(frames, histograms, sources[rows], work.groups[rows], seed=work.chosen.seed)


def _sides(work: Inputs, rows: np.ndarray, labels: np.ndarray) -> "tuple[dict[str, Sides], dict[str, str], dict[str, Any]]":
    """The divisions there are, why others are missing, and the size of the split by group."""
    from btc_ray.dataset.copies import contradicting
    from btc_ray.dataset.split import SplitError, split_by_group
    from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED, Sides

    sides: dict[str, Sides] = {}
    missing: dict[str, str] = {}
    if len(np.unique(labels)) < 2:
        reason = "needs readable images of two classes"
        return {}, dict.fromkeys((PUBLISHED, CLEAN, GROUP), reason), {"reason": reason}
    train, test = (work.split[rows] == name for name in ("train", "test"))
    if train.any() and test.any():
        sides[PUBLISHED] = Sides(train=train, test=test)
    else:
        missing |= dict.fromkeys((PUBLISHED, CLEAN), "the data does not say which images train and which test")
    groups = work.groups[rows]
    clashing = contradicting(work.copies.groups[rows], labels)
    names = [work.classes[label] for label in labels]
    try:
        split = split_by_group(names, np.where(clashing, -1, groups), validation=VALIDATION, test=TEST, seed=work.chosen.seed)
    except SplitError as error:
        return sides, missing | {GROUP: str(error)}, {"reason": str(error)}
    held = split == "test"
    sides[GROUP] = Sides(train=np.isin(split, ("train", "validation")), test=held)
    division = {"train": int(sides[GROUP].train.sum()), "test": int(held.sum()), "test_groups": len(np.unique(groups[held]))}
    return sides, missing, division


def ask_bundle(work: Inputs) -> dict[str, Any]:
    """What the bundle says to masked images, or the reason why it was not asked."""
    from btc_ray.model.engines.choose import choose, open_engine
    from btc_ray.reports.audit.masking import BATCH, ask_masked

    if work.bundle is None or work.chosen.model is None:
        return {"reason": "no --model was given"}
    if work.asked is None or not len(work.asked.rows):
        return {"reason": "no readable image has a label that the bundle knows"}
    say("Asking the bundle about masked images …")
    choice = choose(device=work.chosen.device, precision=work.chosen.precision, bundle=work.bundle)
    engine = open_engine(Place(work.chosen.model, work.chosen.storage()), choice, batch=BATCH)
    labels = work.asked.rows["label"].to_pylist()
    found = ask_masked(engine.probabilities, work.asked.pixels, labels, work.bundle.classes)
    return found | {
        "model": work.chosen.model,
        "model_id": work.bundle.model_id,
        "classes": list(work.bundle.classes),
        "asked": work.asked_of,
        "chance": max(Counter(labels).values()) / len(labels),
    }
