"""Labels of several classes: `glioma|meningioma|pituitary` says that an image is one of them, and not which; `tumour` is its short name."""

from collections.abc import Collection, Sequence

import numpy as np

SEPARATOR = "|"
SHORT = {"tumour": ("glioma", "meningioma", "pituitary")}


def named_classes(label: str, classes: Collection[str]) -> tuple[str, ...]:
    """Those of `classes` that a label names: itself, or several, sorted; none where it is no class and not all of its parts are."""
    if label in classes:
        return (label,)
    parts = SHORT.get(label) or tuple(sorted({part.strip() for part in label.split(SEPARATOR)}))
    return parts if len(parts) > 1 and all(part in classes for part in parts) else ()


def one_name(label: str, labels: Collection[str]) -> str:
    """A label as it is written everywhere: the classes that it names among `labels`, the labels of a data set, in their order."""
    return SEPARATOR.join(named_classes(label, _others(label, labels))) or label


def is_several(label: str, labels: Collection[str]) -> bool:
    """Whether it names several of the other labels of a data set."""
    return len(named_classes(label, _others(label, labels))) > 1


def membership(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """bool (len(labels), len(classes)): which classes each label names."""
    return np.array([[name in named_classes(label, classes) for name in classes] for label in labels], bool).reshape(
        len(labels), len(classes)
    )


def _others(label: str, labels: Collection[str]) -> set[str]:
    return set(labels) - {label}
