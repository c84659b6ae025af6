"""A grid's result for a person: the record, its figures, and `experiments.html` with everything in it and nothing fetched."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.reports.experiments import figures as figures
from btc_ray.reports.experiments.seeds import by_patient, conclude_ranking, needed_difference, rank, runs
from btc_ray.reports.shared.page import PALETTE, as_source, render

CLAIMED = 0.9925  # of the published report, near which its differences are judged

CAPTIONS = {
    "class-counts": "Images by class, all splits together.",
    "split-per-class": "The split that all runs share.",
    "best-experiment": "Loss and accuracy per epoch of the best experiment: its seeds, faint, and their mean. Rings mark the epoch of "
    "each seed that counts, that of least validation loss. The training figures are those of the images as they were shown: flipped, "
    "and while the head was still changing.",
    "comparison": f"All experiments on the validation images: means over seeds, smoothed as TensorBoard does it, with a factor of "
    f"{figures.SMOOTHING:g}.",
    "intervals": "Means with 95 % intervals over seeds (Student's t).",
}


def assess(
    history: pa.Table,
    *,
    settings_of: Mapping[str, Mapping[str, Any]],
    counts: Mapping[str, Any],
    classes: Sequence[str],
    right: Mapping[str, np.ndarray],
    groups: np.ndarray,
) -> dict[str, Any]:
    """The record of a grid: `verdict`, `needed` (near the best's test accuracy, near the report's), `experiments` by rank with the
    settings of their recipes, `classes`, `counts`.

    Args:
        history: a row per experiment, seed, epoch and split.
        settings_of: experiment → settings of its recipe.
        counts: images of each class in each split, and `left_out` by reason.
        right, groups: of the test images, as `seeds.by_patient` takes them.
    """
    found = runs(history)
    ranked = by_patient(rank(found), right, groups)
    images = sum(counts["test"].values())
    reached = ranked[0]["test_accuracy"]["mean"]
    needed = [
        needed_difference(found, images=images, accuracy=accuracy)
        for accuracy in (CLAIMED if reached is None else reached, CLAIMED)
    ]
    return {
        "verdict": conclude_ranking(ranked, needed),
        "needed": needed,
        "experiments": [one | {"settings": dict(settings_of[one["experiment"]])} for one in ranked],
        "classes": list(classes),
        "counts": dict(counts),
    }


def experiment_figures(history: pa.Table, record: Mapping[str, Any]) -> dict[str, bytes]:
    """The figures as PNG, by the names of CAPTIONS."""
    table = history.to_pandas()
    best = record["experiments"][0]
    found = runs(history)
    epochs = found[(found["experiment"] == best["experiment"]) & np.isfinite(found["validation_loss"])]
    chosen = dict(zip(epochs["seed"].tolist(), epochs["epoch"].tolist(), strict=True))
    return {
        "class-counts": figures.class_counts(record["counts"], record["classes"]),
        "split-per-class": figures.split_per_class(record["counts"], record["classes"]),
        "best-experiment": figures.one_experiment(table, best["experiment"], chosen=chosen),
        "comparison": figures.comparison(table, [one["experiment"] for one in record["experiments"]]),
        "intervals": figures.intervals(record["experiments"]),
    }


def write_experiments(record: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as HTML text; the caller writes the file, as UTF-8.

    Args:
        record: what summary.json holds.
        pictures: as `experiment_figures` gives them.
    """
    return render(
        "experiments.html.j2",
        filters={"four": four, "interval": _interval, "p": _p},
        notice=NOT_FOR_DIAGNOSIS,
        record=record,
        pictures=[
            (name, CAPTIONS[name], as_source(pictures[name], "png"))
            for name in ("intervals", "comparison", "best-experiment", "split-per-class", "class-counts")
            if name in pictures
        ],
        palette=PALETTE,
    )


def table_lines(record: Mapping[str, Any], most: int = 10) -> list[str]:
    """The table's first lines as text: mean and 95 % interval over seeds."""
    shown = record["experiments"][:most]
    width = max(len(one["experiment"]) for one in shown)
    lines = [f"{'':>4} {'experiment':<{width}}  validation loss             test accuracy"]
    for one in shown:
        loss, accuracy = (f"{four(one[name])} {_interval(one[name])}" for name in ("validation_loss", "test_accuracy"))
        mark = " =" if one["difference"] is not None and not one["difference"]["told_apart"] else ""
        lines.append(f"{one['rank']:>4} {one['experiment']:<{width}}  {loss:<26}  {accuracy}{mark}")
    rest = len(record["experiments"]) - len(shown)
    if any(line.endswith(" =") for line in lines):
        lines.append("     = cannot be told from the best")
    return lines + ([f"     and {rest:,} more"] if rest else [])


def four(found: Mapping[str, Any]) -> str:
    return "–" if found["mean"] is None else f"{found['mean']:.4f}"


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{found['low']:.4f} to {found['high']:.4f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
