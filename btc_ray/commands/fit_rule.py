"""`btc-ray evaluate --fit-rule`: the rule from slices to series, fitted on the exams of a scored archive that somebody has labelled.

Exams whose patients trained the model are left out, and what is said of the rule is of patients that it has not seen.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.dataset.archived import read_labels
from btc_ray.dataset.meaning import classes_meant
from btc_ray.errors import CHAMPION_STAYS, COMPLETE, UserError
from btc_ray.model.bundle import Bundle, BundleError, library_versions, read_bundle, read_split
from btc_ray.model.bundle.files import SIGNATURE
from btc_ray.progress import say
from btc_ray.reports.worklist.worklist import healthy_class
from btc_ray.scoring.aggregate import evidence
from btc_ray.scoring.folder import RULE, RunFolder
from btc_ray.scoring.state import RunState
from btc_ray.storage import Place
from btc_ray.studies.labels import Labels, Slice
from btc_ray.studies.nifti import bids_names
from btc_ray.studies.rule import SeriesRule
from btc_ray.workers.session import available_cpus, ray_session

_LEARNED = ("train", "validation")


class FitRuleError(UserError):
    """A run, labels and a bundle that no rule can be fitted from."""


@dataclass(frozen=True, kw_only=True)
class _Exams:
    """Labelled exams that can be judged: `rows` of RUN/exams, and of each whether there is a tumour, bool (N,)."""

    rows: pa.Table
    tumour: np.ndarray
    left_out: dict[str, int]


def fit_rule(chosen: settings.Evaluate) -> int:
    """Fit, measure and write the rule; 5 where it is no better than chance, and then nothing but rule.json is written.

    Raises FitRuleError and TooFewPatientsError where there is nothing to fit, LabelsError and LabelledDataError for the labels.
    """
    from btc_ray.reports.evaluation.series_rule import DEFINITIONS, in_words, is_better_than_chance, measured
    from btc_ray.training.series_rule import fit_rule as fit

    folder, state = _scored(chosen)
    healthy = healthy_class(state.classes)
    if healthy is None:
        raise FitRuleError(
            f"the model knows no class without a tumour ({', '.join(state.classes)}): there is nothing to tell apart."
        )
    place = folder.place.at(chosen.model[0] if chosen.model else state.model_uri or "")
    bundle = _bundle_of(place, state)
    labels = Labels(read_labels(folder.place.at(chosen.labels or "")))
    exams = _labelled(folder, state, labels, learned=_learned(place, bundle, folder))
    for reason, count in exams.left_out.items():
        say(f"left out: {count:,} exams × {reason}")
    column = state.probability_columns[state.classes.index(healthy)].removeprefix("prob_")
    patients = np.unique(np.array(exams.rows["patient_key"].to_pylist(), str), return_inverse=True)[1]
    fitted = fit(evidence(exams.rows, column), exams.tumour, patients)
    found = measured(fitted.probabilities, exams.tumour, patients)
    rule = SeriesRule(
        kind=fitted.kind,
        weights=fitted.weights,
        intercept=fitted.intercept,
        healthy=healthy,
        model_id=state.fingerprint.model_id,
        preprocess_id=state.fingerprint.preprocess_id,
        measured=found,
    )
    better = is_better_than_chance(found)
    output = folder.place.at(chosen.output) if chosen.output else folder.place
    record = {
        "kind": "series rule",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": state.run_id,
        "model_id": rule.model_id,
        "rule": rule.to_dict() if better else None,
        "measured": found,
        "candidates": fitted.losses,
        "left_out": exams.left_out,
        "definitions": DEFINITIONS,
        "versions": library_versions(),
    }
    (output / RULE).write_json(record)
    print(f"{rule.name}, on patients that it was not fitted on:")
    for line in in_words(found):
        print(f"  {line}")
    print(f"rule         {output / RULE}")
    if not better:
        say("No better than chance on patients that it has not seen (AUROC): there is no rule, and the bundle stays as it was.")
        return CHAMPION_STAYS
    _into_bundle(place, bundle, rule)
    command = f"btc-ray group --run {folder.place} --rule {output / RULE}"
    say(f"Labels for the series of this run: {command}. Those of the patients above are not new to it.")
    return COMPLETE


def _scored(chosen: settings.Evaluate) -> tuple[RunFolder, RunState]:
    """The complete run of --run, else one that is made here of --data. Raises FitRuleError."""
    options = chosen.storage()
    if chosen.run is None:
        from btc_ray.scoring.run import score
        from btc_ray.scoring.series import write_groups

        job = settings.Score(
            model=chosen.model[0],
            input=(chosen.data,),
            output=(Place(chosen.output) / "run").uri,
            follow_links=chosen.follow_links,
            address=chosen.address or os.environ.get("RAY_ADDRESS") or None,
            **{name: getattr(chosen, name) for name in _SHARED},
        )
        state = score(job, cpus=chosen.cpus or available_cpus(), ray_session=ray_session(chosen))
        folder = RunFolder(Place(job.output, options))
        write_groups(folder, state, healthy=healthy_class(state.classes))
    else:
        folder = RunFolder(Place(chosen.run, options))
        found = folder.read_state()
        if found is None or not found.complete:
            raise FitRuleError(f"--run {folder.place} is no complete run: give the --output of `btc-ray score`.")
        state = found
    if not state.studies or not folder.exams.files(".parquet"):
        raise FitRuleError(
            f"{folder.place} has no exams: a rule is for series of DICOM or NIfTI (`btc-ray group` writes their tables)."
        )
    return folder, state


_SHARED = ("series", "sniff", "privacy", "pseudonym_key", "cpus", "engine", "device", "precision", "storage_options", "debug")


def _bundle_of(place: Place, state: RunState) -> Bundle | None:
    """The bundle that the rule is for; None, which is said, where it is not there. Raises FitRuleError for another model's."""
    try:
        bundle = read_bundle(place)
    except BundleError as error:
        say(f"The rule will be in {RULE} alone: {error}")
        return None
    if (bundle.model_id, bundle.preprocess_id) != (state.fingerprint.model_id, state.fingerprint.preprocess_id):
        raise FitRuleError(
            f"the run was scored with model {state.fingerprint.model_id}, and {place} is {bundle.model_id}: name its bundle with --model."
        )
    return bundle


def _learned(place: Place, bundle: Bundle | None, folder: RunFolder) -> frozenset[str]:
    """The keys of patients of whom a file trained the model or chose its best epoch, by the bytes that its record names."""
    split = None if bundle is None else read_split(place, bundle)
    if split is None:
        say("The bundle does not record which images it was trained on: whether these patients are among them is unknown.")
        return frozenset()
    seen = split.filter(pc.is_in(split["split"], pa.array(_LEARNED)))["content_sha256"].drop_null().to_pylist()
    files = pa.array(sorted({content.partition("#")[0] for content in seen}), pa.string())
    found: set[str] = set()
    for batch in folder.score_batches(["content_sha256", "patient_key"]):
        found.update(batch.filter(pc.is_in(batch["content_sha256"], files))["patient_key"].drop_null().to_pylist())
    return frozenset(found)


def _labelled(folder: RunFolder, state: RunState, labels: Labels, *, learned: frozenset[str]) -> _Exams:
    """The exams whose series that is shown has a label. Raises FitRuleError where a label is no class."""
    crosswalk = folder.private / "crosswalk.parquet"
    if not crosswalk.exists():
        raise FitRuleError(
            f"{crosswalk} is gone, where it stands which series a label is for: fit the rule where the run was made."
        )
    exams = (folder.exams / "part-00000.parquet").read_table()
    series = crosswalk.read_table().to_pylist()
    matched = labels.match([_named(row) for row in series])
    if matched.unmatched:
        say(f"Rows of --labels that name no series, exam or patient of the run: {len(matched.unmatched):,}.")
    told = {row["series_key"]: label.label for row, label in zip(series, matched.labels, strict=True) if label is not None}
    meant = {label: _tumour(label, state.classes) for label in set(told.values())}
    if odd := sum(meant[label] is None for label in told.values()):
        raise FitRuleError(f"--labels: the labels of {odd:,} series are no class of the model, tumour or notumor.")
    left_out: Counter[str] = Counter()
    chosen, tumour = [], []
    for number, exam in enumerate(exams.select(["series_key", "patient_key", "decision", "n_selected"]).to_pylist()):
        reason = _not_fitted(exam, told, learned)
        if reason is not None:
            left_out[reason] += 1
            continue
        chosen.append(number)
        tumour.append(meant[told[exam["series_key"]]])
    return _Exams(rows=exams.take(pa.array(chosen, pa.int64())), tumour=np.array(tumour, bool), left_out=dict(left_out))


def _not_fitted(exam: Mapping[str, Any], told: Mapping[str, str], learned: frozenset[str]) -> str | None:
    """Why an exam is none to fit on; None where it is one."""
    if not exam["n_selected"]:
        return "no scored series"
    if exam["series_key"] not in told:
        return "no label"
    if exam["decision"] == "insufficient":
        return "too few used slices"
    return "the patient trained the model" if exam["patient_key"] in learned else None


def _named(row: Mapping[str, Any]) -> Slice:
    """A series as labels may call it. Runs of before there were rules have keys and the series' UID alone."""
    path = row.get("uri") or row["series"].removeprefix("file\0")
    names = ("patient_key", "exam_key", "series_key", "study_uid", "patient_id")
    identifiers = {"series_uid": row["series"], **{name: row.get(name) for name in names}, **bids_names(path)}
    return Slice(path=path, identifiers=identifiers)


def _tumour(label: str, classes: Sequence[str]) -> bool | None:
    """Whether a label says that there is a tumour; None where it says neither."""
    meant, healthy = classes_meant(label, classes), healthy_class(classes)
    return None if not meant or (healthy in meant and len(meant) > 1) else healthy not in meant


def _into_bundle(place: Place, bundle: Bundle | None, rule: SeriesRule) -> None:
    """Write the rule into `decision` of the bundle, and say where that cannot be."""
    if bundle is None:
        return
    if (place / SIGNATURE).exists():
        say(f"{place} is signed, and stays as it is: its signature covers bundle.json. `btc-ray group --rule` takes {RULE}.")
    elif not bundle.decision:
        say(f"{place} has no thresholds, and stays as it is. `btc-ray group --rule` takes {RULE}.")
    else:
        record = bundle.to_dict()
        record["decision"] = {**record["decision"], "series_rule": rule.to_dict()}
        (place / "bundle.json").write_json(record, indent=2, ascii_only=True)
        print(f"bundle       {place}  (runs that are begun from here on label series)")
