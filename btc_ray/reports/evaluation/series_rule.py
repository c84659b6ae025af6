"""What a rule for series is worth: sensitivity, specificity and AUROC by exam, with intervals by patient, as a record and in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from btc_ray.reports.shared.bootstrap import RESAMPLES, Grouped, grouped_share, percentile_interval, resample_auroc

DEFINITIONS = {
    "sensitivity": "Share of the exams with a tumour that the rule calls one.",
    "specificity": "Share of the exams without a tumour that the rule calls none.",
    "auroc": "Area under the ROC curve of the rule's probability: how often an exam with a tumour has the larger one.",
    "fitted": "Every exam is answered by a rule that was chosen among the candidates and fitted without its patient, in five folds; the "
    "rule that is kept is fitted on all of them.",
    "intervals": "95%, by the percentile bootstrap over patients; Wilson's where every exam is of another patient.",
    "exams": "An exam is judged by its selected series that is most like the training images.",
}


def measured(probabilities: np.ndarray, tumour: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """The record. Of N exams: `probabilities` float64 by rules that did not see their patients, `tumour` bool, `patients` int."""
    from sklearn.metrics import roc_auc_score

    called = probabilities >= 0.5
    groups = Grouped.of(patients)
    resampled = resample_auroc(probabilities, tumour, groups, resamples=RESAMPLES, seed=0)
    return {
        "exams": len(tumour),
        "exams_with_tumour": int(tumour.sum()),
        "patients": groups.count,
        "patients_with_tumour": len(np.unique(patients[tumour])),
        "sensitivity": grouped_share(called[tumour], patients[tumour]),
        "specificity": grouped_share(~called[~tumour], patients[~tumour]),
        "auroc": percentile_interval(float(roc_auc_score(tumour, probabilities)), resampled, groups.count),
    }


def is_better_than_chance(record: Mapping[str, Any]) -> bool:
    """Whether the whole interval of the AUROC lies above a half. An AUROC of exactly 1 in all resamples has no interval, and is."""
    auroc = record["auroc"]
    return bool((auroc["value"] if auroc["low"] is None else auroc["low"]) > 0.5)


def in_words(record: Mapping[str, Any]) -> list[str]:
    """The figures, a line each."""
    lines = [
        f"{record['exams']:,} exams of {record['patients']:,} patients, {record['exams_with_tumour']:,} of "
        f"{record['patients_with_tumour']:,} with a tumour"
    ]
    for name in ("sensitivity", "specificity", "auroc"):
        found = record[name]
        interval = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
        lines.append(f"{name:<12} {found['value']:.3f}{interval}")
    return lines
