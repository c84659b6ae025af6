"""Which images train, which choose the best epoch, which measure: by group, stratified by class, the same for the same seed."""

from collections.abc import Sequence

import numpy as np

from btc_ray.errors import UserError

SPLITS = ("train", "validation", "test")
LEFT_OUT = "left_out"


class SplitError(UserError):
    """Too few images or groups of a class to split."""


def split_by_group(
    labels: Sequence[str],
    groups: np.ndarray,
    *,
    validation: float,
    test: float,
    seed: int,
    held: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Every group on one side: the share `test` of each class's images measures, `validation` chooses, the rest trains.

    Args:
        groups: int64 (N,), the group of each image; -1 leaves an image out.
        held: the split of images that another model knew already, or None each. A group with one that it learned from does not
            measure, and one with an image that measured it measures again, so that both models can be compared on the same groups.

    Returns a split name for each row, `<U10` (N,). Raises SplitError.
    """
    label, split = np.array(labels), np.full(len(labels), "train", dtype="<U10")
    split[groups < 0] = LEFT_OUT
    fixed = np.zeros(len(labels), bool)
    if held is not None:
        before = np.array([name or "" for name in held], dtype="<U10")
        for name in ("test", "validation", "train"):  # what was learned from stays learned from, whatever copies have joined
            rows = (groups >= 0) & np.isin(groups, groups[(before == name) & (groups >= 0)])
            split[rows], fixed[rows] = name, True
    share = {"test": test, "validation": validation}
    for number, (name, wanted) in enumerate(share.items(), start=1):
        _take(split, name, wanted, label, groups, np.random.default_rng([seed, number]), fixed)
    _check(split, label, ("train", "validation", "test"))
    return split


def split_as_published(
    labels: Sequence[str],
    given: Sequence[str | None],
    copies: np.ndarray,
    groups: np.ndarray,
    *,
    validation: float,
    seed: int,
) -> np.ndarray:
    """The published split, whatever copies stand on both sides; validation is as published too, or taken from Training, by group of
    copies.

    Args:
        given: `test`, `validation` or `train` for each image; what it says of test and validation images holds, and where it names
            no validation images, they are taken from the training images.
        copies: int64 (N,), the group of copies of each image; -1 leaves a training image out.
        groups: int64 (N,), the user's own groups (patients) joined; an image of a group with a test image is left out.
    """
    label = np.array(labels)
    split = np.array([name if name in ("test", "validation") else "train" for name in given], dtype="<U10")
    if not (split == "test").any():
        raise SplitError(
            "--split folders needs published test images (DATA/Testing or a column split), and there are none. Give --split group."
        )
    split[(split != "test") & ((copies < 0) | np.isin(groups, groups[split == "test"]))] = LEFT_OUT
    if not (split == "validation").any():
        _take(split, "validation", validation, label, copies, np.random.default_rng([seed, 2]), np.zeros(len(label), bool))
    _check(split, label, ("train", "validation"))
    return split


def _take(
    split: np.ndarray,
    name: str,
    share: float,
    label: np.ndarray,
    unit: np.ndarray,
    random: np.random.Generator,
    fixed: np.ndarray,
) -> None:
    """Move whole units of `train` that are not fixed to `name` until each class has its share of all its rows in play."""
    for which in np.unique(label):
        in_play = (label == which) & np.isin(split, ("train", name))
        rows = np.flatnonzero(in_play & (split == "train") & ~fixed)
        units, sizes = np.unique(unit[rows], return_counts=True)
        order = random.permutation(len(units))
        before = np.cumsum(sizes[order]) - sizes[order]
        wanted = round(share * in_play.sum()) - (in_play & (split == name)).sum()
        split[(split == "train") & ~fixed & np.isin(unit, units[order][before < wanted])] = name


def _check(split: np.ndarray, label: np.ndarray, wanted: tuple[str, ...]) -> None:
    for which in np.unique(label):
        for name in wanted:
            if not ((label == which) & (split == name)).any():
                raise SplitError(f"class {which} has too few images or groups to leave any for {name}; give it more images.")
