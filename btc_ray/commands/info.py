"""`btc-ray info`: what a model bundle or a run folder is; a bundle is checked as `score` would; neither torch nor Ray is loaded."""

import json
from collections.abc import Mapping
from typing import Any

from btc_ray import settings
from btc_ray.errors import UserError
from btc_ray.model.bundle import check_bundle, read_bundle
from btc_ray.model.int8.form import agreement_in_words
from btc_ray.model.reference import in_words
from btc_ray.scoring.state import read_state
from btc_ray.storage import Place
from btc_ray.studies.told import told


class InfoError(UserError):
    """A folder that is neither a bundle nor a run."""


def info(chosen: settings.Info) -> int:
    """Print what `chosen.path` is, what changed between the runs of `chosen.compare`, or what those of `chosen.runs` come to; or
    register them in a table.

    Raises InfoError, BundleError, CompareError, RegisterError."""
    if chosen.register:
        from btc_ray.commands.register import register_runs

        return register_runs(chosen)
    if chosen.runs:
        from btc_ray.commands.nights import print_nights

        return print_nights(chosen)
    if chosen.path is None:
        from btc_ray.commands.compare import print_comparison  # pyarrow.dataset takes half a second

        return print_comparison(chosen)
    place = Place(chosen.path, chosen.storage())
    if (place / "bundle.json").exists():
        kind, facts = "model bundle", _checked(place)
    elif (place / "run.json").exists():
        kind, facts = "scoring run", read_state(place).to_dict()
    else:
        raise InfoError(f"{place} is neither a model bundle (no bundle.json) nor a run folder (no run.json).")
    if chosen.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    print(f"{place}: a {kind}")
    lines = _bundle_lines(facts) if kind == "model bundle" else _run_lines(facts)
    for name, value in lines.items():
        print(f"  {name:<14} {value}")
    return 0


def _checked(place: Place) -> dict[str, Any]:
    bundle = read_bundle(place)
    check_bundle(place, bundle)
    return bundle.to_dict()


def _bundle_lines(facts: Mapping[str, Any]) -> dict[str, str]:
    lines = {
        "model_id": facts["model_id"],
        "architecture": facts["architecture"],
        "classes": ", ".join(facts["classes"]),
        "crop": f"{facts['preprocess'].get('crop')} at {facts['preprocess'].get('size')} px (preprocess_id {facts['preprocess_id']})",
        "created": facts["created"] or "unknown",
        "git commit": facts["git_commit"] or "unknown",
    }
    if facts["decision"]:
        lines["decision"] = in_words(facts["decision"])
    if rule := facts["decision"].get("series_rule"):
        found = rule["measured"]
        lines["series rule"] = (
            f"{rule['kind']}, fitted on {found['patients']:,} patients, AUROC {found['auroc']['value']:.3f} by exam"
        )
    if facts["int8"]:
        lines["int8"] = agreement_in_words(facts["int8"])
    for split, metrics in facts["metrics"].items():
        accuracy, loss = ("–" if (value := metrics.get(name)) is None else f"{value:.4f}" for name in ("accuracy", "loss"))
        lines[split] = f"accuracy {accuracy}, loss {loss} on {metrics['images']:,} images"
    return lines


def _run_lines(facts: Mapping[str, Any]) -> dict[str, str]:
    fingerprint, counts = facts["fingerprint"], facts.get("counts")
    lines = {
        "state": "complete" if facts["complete"] else "not complete: run the same command again to continue",
        "inputs": ", ".join(fingerprint["inputs"]),
        "model_id": fingerprint["model_id"],
        "preprocess_id": fingerprint["preprocess_id"],
        "images": f"{facts['manifest']['rows']:,}" if facts["manifest"] else "not listed yet",
    }
    if series := told(facts.get("studies") or {}):
        lines["series"] = " ".join(series)
    if known := facts.get("known"):
        lines["known"] = f"{known['files']:,} files, scored by {len(known['runs']):,} earlier runs, by {known['by']}"
    if counts:
        lines["status"] = ", ".join(f"{number:,} {status}" for status, number in counts["status"].items())
        lines["labels"] = ", ".join(f"{number:,} {label}" for label, number in counts["label"].items())
        if counts.get("decision"):
            lines["decisions"] = ", ".join(f"{number:,} {decision}" for decision, number in counts["decision"].items())
    return lines
