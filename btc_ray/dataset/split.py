"""Which images train, which choose the best epoch, which measure: by group, stratified by class, the same for the same seed."""

from collections.abc import Sequence

import numpy as np

from btc_ray.dataset.several import is_several
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


def fold_of_groups(labels: Sequence[str], groups: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Every group in one of `folds` folds, each class spread evenly: int64 (N,), −1 for the images that `groups` (int64 (N,)) leaves
    out with −1.

    The largest groups are placed first, each where its classes are rarest so far, measured as shares of the class; among equals
    where the fewest images are. Raises SplitError for a class of fewer groups than folds.
    """
    label = np.array(labels)
    classes, which = np.unique(label, return_inverse=True)
    names, group = np.unique(groups[groups >= 0], return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group, which[groups >= 0]), 1)
    for name, found in zip(classes.tolist(), (counts > 0).sum(axis=0), strict=True):
        if found < folds and not is_several(name, classes.tolist()):
            raise SplitError(f"class {name} has {found} groups, and --folds {folds} needs one for each fold; give fewer folds.")
    share = counts / counts.sum(axis=0)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    fold_of, held, images = np.zeros(len(names), np.int64), np.zeros((folds, len(classes))), np.zeros(folds)
    for number in order.tolist():
        crowded = (held * share[number]).sum(axis=1)
        fold = int(np.lexsort((images, crowded))[0])
        fold_of[number] = fold
        held[fold] += share[number]
        images[fold] += counts[number].sum()
    found = np.full(len(label), -1, np.int64)
    found[groups >= 0] = fold_of[group]
    return found


def split_of_fold(
    labels: Sequence[str], groups: np.ndarray, folds: np.ndarray, fold: int | None, *, validation: float, seed: int
) -> np.ndarray:
    """The split in which `fold` measures: a share `validation` of the others chooses, by group, and the rest trains. With None nobody
    measures.

    Args:
        folds: int64 (N,), as `fold_of_groups` gives them.

    Returns a split name for each row, `<U10` (N,). Raises SplitError.
    """
    label, split = np.array(labels), np.full(len(labels), "train", dtype="<U10")
    split[folds < 0] = LEFT_OUT
    if fold is not None:
        split[folds == fold] = "test"
    random = np.random.default_rng([seed, 2, 0 if fold is None else 1 + fold])
    _take(split, "validation", validation, label, groups, random, np.zeros(len(label), bool))
    _check(split, label, ("train", "validation") if fold is None else SPLITS)
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
    names = set(label.tolist())
    for which in sorted(names):
        if is_several(which, names):
            continue
        for name in wanted:
            if not ((label == which) & (split == name)).any():
                raise SplitError(f"class {which} has too few images or groups to leave any for {name}; give it more images.")
