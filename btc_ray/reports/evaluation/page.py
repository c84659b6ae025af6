"""`evaluation.html`: the record of an evaluation as one page for a person, with everything in it and nothing fetched from anywhere."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.reports.evaluation.sets import ALL, CLEAN, EXAMINATIONS, GROUP, NEW, PUBLISHED, SLICES, TITLES
from btc_ray.reports.shared.curves import CORNER, reaches_corner, reliability_png, reliability_points, roc_lines, roc_png
from btc_ray.reports.shared.figures import confusion_matrix
from btc_ray.reports.shared.metrics import DEFINITIONS
from btc_ray.reports.shared.page import PALETTE, ReadImage, file_name, picture, render

SHOWN = 60  # errors of a model, 0.3 MB of thumbnails
FIGURES = ("accuracy", "balanced_accuracy", "mcc", "auroc")
PROBABILITIES = ("cross_entropy", "brier", "ece")
_SHARES = (
    *("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision"),
    *("tumour_sensitivity", "accepted_share", "error_among_accepted"),
)
_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "mcc": "MCC",
    "auroc": "AUROC (macro)",
    "cross_entropy": "Cross-entropy",
    "brier": "Brier score",
    "ece": "ECE",
}

_FILES = {"record": "evaluation.json", "errors": "errors.parquet"}
_FOLD_FILES = {"record": "folds.json", "errors": "out_of_fold.parquet"}


def write_evaluation(record: Mapping[str, Any], errors: Sequence[Mapping[str, Any]], read_image: Mapping[str, ReadImage]) -> str:
    """The page as HTML text; the caller writes the file, as UTF-8.

    Args:
        record: what evaluation.json holds, or folds.json, which has `folds` besides.
        errors: rows of errors.parquet.
        read_image: for each model, by its name, the bytes of the image of an error; what it raises becomes a placeholder. A model
            that is not in it is shown without pictures.
    """
    models = []
    for model in record["models"]:
        wrong = [row for row in errors if row["model"] == model["name"]]
        reader = read_image.get(model["name"])
        models.append(
            {
                "facts": _facts(model),
                "cards": [_card(row, reader) for row in wrong[:SHOWN]],
                "pictures": [_pictures(one["metrics"]) for one in model["sets"]],
            }
            | dict(model)
        )
    return render(
        "evaluation.html.j2",
        filters={"percent": _percent, "figure": _figure, "interval": _interval},
        notice=NOT_FOR_DIAGNOSIS,
        record=record,
        folds=record.get("folds", ()),
        files=_FOLD_FILES if "folds" in record else _FILES,
        models=models,
        numbers=_numbers(record["models"]),
        titles=TITLES,
        names=_NAMES,
        figures=FIGURES,
        probabilities=PROBABILITIES,
        definitions={_NAMES.get(name, name.capitalize()): text for name, text in DEFINITIONS.items()},
        corner=CORNER,
        palette=PALETTE,
        colours=len(PALETTE),
    )


def evaluation_figures(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Three PNG files for each model and set that has images: file name → bytes."""
    found = {}
    for number, model in enumerate(record["models"], start=1):
        for one in model["sets"]:
            if not one["metrics"]["images"]:
                continue
            begin = f"{_file_name(model['name'], number)}-{one['key'].replace('_', '-')}"
            found[f"{begin}-confusion.png"] = confusion_matrix(one["metrics"]["confusion"], model["classes"])
            found[f"{begin}-roc.png"] = roc_png(one["metrics"]["by_class"])
            found[f"{begin}-reliability.png"] = reliability_png(one["metrics"]["calibration"])
    return found


def _numbers(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The numbers that stand beside each other: for each kind of set the models that have it, or why none has."""
    kinds = []
    for key in (SLICES, EXAMINATIONS, NEW, PUBLISHED, CLEAN, GROUP, ALL):
        found = [(model["name"], one) for model in models for one in model["sets"] if one["key"] == key]
        gaps = {gap["reason"]: gap for model in models for gap in model["missing"] if gap["key"] == key}
        if found or (gaps and key in (PUBLISHED, CLEAN, GROUP)):
            kinds.append({"title": TITLES[key], "found": found, "gaps": [] if found else list(gaps.values())})
    return kinds


def _facts(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    trained = "not recorded" if model["trained_on"] is None else f"{model['trained_on']:,} different files, validation among them"
    if any(one["key"] == SLICES for one in model["sets"]):
        trained = "the other folds"
    return [
        ("Bundle", str(model.get("bundle") or "not recorded")),
        ("model_id", model["model_id"]),
        ("Trained", str(model["created"] or "not recorded")),
        ("Trained on", f"{trained}, --split {model['split']}" if model["split"] else trained),
        ("Data fingerprint", str(model["data_fingerprint"] or "not recorded")),
        ("Temperature", f"{model['temperature']:.4f}"),
        ("Preprocessing", model["preprocess_id"]),
        ("Git commit", str(model["git_commit"] or "not recorded")),
        ("Images scored", f"{model['scored']:,}" + (f", in {model['run']}" if model.get("run") else "")),
        ("Errors", f"{model['errors']:,}"),
    ]


def _pictures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    totals = [sum(row) for row in metrics["confusion"]]
    calibration = metrics["calibration"]
    return {
        "roc": roc_lines(metrics["by_class"]),
        "corner": roc_lines(metrics["by_class"], limit=CORNER) if reaches_corner(metrics["by_class"]) else [],
        "shares": [
            [count / total if total else 0 for count in row] for row, total in zip(metrics["confusion"], totals, strict=True)
        ],
        "totals": totals,
        "before": reliability_points(calibration["before"]["reliability"]),
        "after": reliability_points(calibration["after"]["reliability"]),
    }


def _card(row: Mapping[str, Any], read_image: ReadImage | None) -> dict[str, Any]:
    card = {**row, "name": file_name(row["uri"])}
    return card if read_image is None else card | picture(row, read_image)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def _figure(found: Mapping[str, Any], name: str) -> str:
    """A value as it is usually given: a share in per cent, other figures with four digits."""
    share = name in _SHARES
    return "–" if found["value"] is None else _percent(found["value"], 2) if share else f"{found['value']:.4f}"


def _interval(found: Mapping[str, Any], name: str) -> str:
    if found["low"] is None:
        return ""
    share = name in _SHARES
    low, high = (100 * found["low"], 100 * found["high"]) if share else (found["low"], found["high"])
    return f"{low:.2f} to {high:.2f}" if share else f"{low:.4f} to {high:.4f}"


def _file_name(name: str, number: int) -> str:
    return f"{number}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)[:60]}"
