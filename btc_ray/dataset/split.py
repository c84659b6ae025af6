"""Which images train, which choose the best epoch, which measure: by group, stratified by class, the same for the same seed."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "validation", "test")


class SplitError(ValueError):
    """Too few images or groups of a class to split."""


def assign_splits(
    labels: Sequence[str], given: Sequence[str | None], groups: Sequence[str | None], *, validation: float, test: float, seed: int
) -> np.ndarray:
    """A split name for each row: `<U10` (N,).

    What `given` names test stays test; where it names none, the share `test` of each class is taken. The share `validation`
    of each class of the rest chooses the best epoch. A group is never cut. Raises SplitError.
    """
    unit = np.array([f"g{group}" if group is not None else f"r{number}" for number, group in enumerate(groups)])
    label = np.array(labels)
    split = np.array(["test" if name == "test" else "train" for name in given], dtype="<U10")
    if not (split == "test").any():
        _take(split, "test", test, label, unit, np.random.default_rng([seed, 1]))
    else:  # a group with an image in the published test set does not train
        split[np.isin(unit, unit[split == "test"])] = "test"
    _take(split, "validation", validation, label, unit, np.random.default_rng([seed, 2]))
    for name in np.unique(label):
        for wanted in ("train", "validation"):
            if not ((label == name) & (split == wanted)).any():
                raise SplitError(f"class {name} has too few images or groups to leave any for {wanted}; give it more images.")
    return split


def _take(split: np.ndarray, name: str, share: float, label: np.ndarray, unit: np.ndarray, random: np.random.Generator) -> None:
    """Move whole groups of `train` to `name` until each class has its share."""
    for which in np.unique(label):
        rows = np.flatnonzero((label == which) & (split == "train"))
        units, sizes = np.unique(unit[rows], return_counts=True)
        order = random.permutation(len(units))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = units[order][before < round(share * len(rows))]
        split[(split == "train") & np.isin(unit, chosen)] = name
