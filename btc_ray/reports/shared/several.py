"""Images whose label names several classes, as a tumour of unknown kind: measured as one of these against none of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from btc_ray.dataset.several import membership, named_classes
from btc_ray.reports.shared.bootstrap import grouped_share


def measure_several(
    labels: Sequence[str], probabilities: np.ndarray, groups: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """A record for each label that names several of `classes`: `images` and `groups` that bear it; `sensitivity`, the share of them whose
    most probable class is one of these; `specificity`, the share of the images of all other classes that is called none of these; and
    `confidence`, the mean of the summed probability.

    Args:
        labels: N names of classes, or of several.
        probabilities: float (N, C), calibrated.
        groups: int (N,), equal for images that are not independent.
    """
    names = np.array(labels, object)
    said = probabilities.argmax(axis=1)
    records = []
    for label in sorted(name for name in set(labels) if len(named_classes(name, classes)) > 1):
        members = membership([label], classes)[0]
        inside = members[said]
        bearing = names == label
        outside = ~np.isin(
            names, [name for name in set(labels) if set(named_classes(name, classes)) & set(named_classes(label, classes))]
        )
        records.append(
            {
                "label": label,
                "classes": list(named_classes(label, classes)),
                "images": int(bearing.sum()),
                "groups": len(np.unique(groups[bearing])),
                "sensitivity": grouped_share(inside[bearing], groups[bearing], missing=f"no images of {label}"),
                "specificity": grouped_share(~inside[outside], groups[outside], missing="no images of other classes"),
                "confidence": float(probabilities[bearing][:, members].sum(axis=1).mean()),
            }
        )
    return records
