"""`model_card.md`: a bundle's facts for a reader, what is not known named as unknown.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.model.bundle.description import Bundle
from btc_ray.model.int8.form import agreement_in_words
from btc_ray.model.reference import in_words


def model_card(bundle: Bundle, elsewhere: Sequence[Mapping[str, Any]] = ()) -> str:
    """The card as Markdown. `elsewhere`: what was measured on images of other sources, records as `evaluate --external` has them; the card
    in a bundle has none, for it is written before anybody can have measured them."""
    return "\n".join(
        [
            f"# Model {bundle.model_id}",
            "",
            f"**{NOT_FOR_DIAGNOSIS}**",
            "",
            f"A {bundle.architecture} that tells {_words(bundle.classes)} apart in single MRI slices "
            f"({bundle.preprocess.get('size', '?')} × {bundle.preprocess.get('size', '?')} pixels, grey, "
            f"crop `{bundle.preprocess.get('crop', '?')}`). Made {bundle.created or 'at an unknown time'} by btc-ray.",
            "",
            "## Intended use",
            "",
            "Research on archives of brain MRI slices: sorting, searching, method comparison. Not for patients.",
            "",
            "## How good it is",
            "",
            *_out_of_fold(bundle),
            *_table(bundle.metrics),
            "",
            "## When its answer is taken",
            "",
            *_decision(bundle.decision),
            "",
            *_elsewhere(elsewhere),
            "## How near int8 is",
            "",
            agreement_in_words(bundle.int8),
            "",
            "## What it was trained on",
            "",
            *_table(bundle.data),
            "",
            "## How it was trained",
            "",
            *_table(bundle.training),
            "",
            "## What is not known",
            "",
            "- Scanner, field strength, sequence, age and sex of the patients: unknown unless stated above.",
            "- Whether images of one patient stand on both sides of a split: unknown unless the data names patients.",
            f"- How it does on images of {'a hospital not named above' if elsewhere else 'another hospital'}: unknown. Measure it on "
            "images of your own. What is said of accepted images holds for new patients of the same sources, and for no other source.",
            "- Images that are not brain MRI get one of the classes all the same; `decision` is to tell them apart, and does not always.",
            "",
            "## Identity",
            "",
            *_table(
                {
                    "model_id": bundle.model_id,
                    "preprocess_id": bundle.preprocess_id,
                    "temperature": bundle.temperature,
                    "test_time_flips": bundle.test_time_flips,
                    "git commit": bundle.git_commit or "unknown",
                    **bundle.versions,
                }
            ),
            "",
        ]
    )


def _out_of_fold(bundle: Bundle) -> list[str]:
    """Whose figures these are, where they are not the bundle's own."""
    if not bundle.data.get("folds"):
        return []
    patients = bundle.data.get("patients")
    kept = "patient (or copy, where the patient is not known)" if patients else "copy (no image names its patient)"
    return [
        f"The figures `out_of_fold` are those of {bundle.data['folds']} models of the same recipe, each on the fold that it had not "
        f"learned from: no {kept} stands on both sides. This bundle itself was then trained on all images, a share of which chose the "
        "epoch (`validation`), and no image is left to measure it on. `out_of_fold.parquet` has the answers, `folds.html` what they "
        "come to.",
        "",
    ]


def _decision(decision: Mapping[str, Any]) -> list[str]:
    if not decision:
        return [in_words(decision)]
    return [
        in_words(decision),
        "",
        "| kept, the most confident first | accuracy | confidence at least |",
        "|---|---|---|",
        *(f"| {row['coverage']:.0%} | {row['accuracy']:.4f} | {row['confidence']:.3f} |" for row in decision["risk_coverage"]),
    ]


def _elsewhere(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A section with a row a source; nothing where there is none."""
    if not found:
        return []
    return [
        "## On images from elsewhere",
        "",
        "By source, with 95 % intervals resampled by patient (by image where none is known). Tumour sensitivity: the share of the tumours "
        "not called the class without one; specificity: the share of the others that are called so.",
        "",
        "| source | images | accuracy | tumour sensitivity | specificity | accepted | of these wrong |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {_cell(one['source'])} | {one['measured']:,} | "
            + " | ".join(_figure(one[name]) for name in ("accuracy", "tumour_sensitivity", "specificity"))
            + f" | {_count(one['accepted'])} | {_count(one['wrong_among_accepted'])} |"
            for one in found
        ),
        "",
    ]


def _figure(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "–"
    bounds = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{found['value']:.3f}{bounds}"


def _count(number: int | None) -> str:
    return "no thresholds" if number is None else f"{number:,}"


def _words(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _table(facts: Mapping[str, Any]) -> list[str]:
    if not facts:
        return ["Unknown."]
    return ["| | |", "|---|---|", *(f"| {_cell(key)} | {_cell(_value(value))} |" for key, value in facts.items())]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _value(value: Any) -> str:
    match value:
        case None:
            return "unknown"
        case float():
            return f"{value:.4f}"
        case Mapping():
            return "; ".join(f"{key} {_value(item)}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(_value(item) for item in value)
        case _:
            return str(value)
