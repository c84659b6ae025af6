"""Rows that belong together: partitions joined into groups, and groups whose labels contradict each other."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["connected", "contradicting", "join_groups", "without_common_class"]


def connected(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The group of each of `count` rows where row `first[k]` and row `second[k]` belong together for every k.

    Returns:
        int64 (count,), numbered 0.. in order of each group's first row.
    """
    if not count:
        return np.zeros(0, np.int64)
    links = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, found = connected_components(links, directed=False)
    _, opening, group = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(opening), np.int64)
    rank[np.argsort(opening)] = np.arange(len(opening))
    return rank[group]


def join_groups(*partitions: Sequence[Hashable | None] | np.ndarray) -> np.ndarray:
    """One partition out of several: rows that share a value in any of them, directly or through others, are one group.

    Args:
        partitions: each N values, one for a row; None shares with nobody. Values of different partitions never meet: a patient 7
            and a group 7 of copies are two things.

    Returns:
        int64 (N,), numbered 0.. in order of each group's first row.

    Raises:
        ValueError: without partitions, or where their lengths differ.
    """
    lengths = {len(partition) for partition in partitions}
    if len(lengths) != 1:
        raise ValueError(f"partitions of {sorted(lengths)} rows cannot be joined: give at least one, all of the same length")
    first: list[int] = []
    second: list[int] = []
    for partition in partitions:
        opening: dict[Hashable, int] = {}
        values: Iterable[Hashable | None] = partition.tolist() if isinstance(partition, np.ndarray) else partition
        for row, value in enumerate(values):
            if value is not None and (start := opening.setdefault(value, row)) != row:
                first.append(start)
                second.append(row)
    return connected(lengths.pop(), np.array(first, np.int64), np.array(second, np.int64))


def contradicting(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows are in a group whose members have more than one label.

    Args:
        groups: integers (N,), as `join_groups` or `find_copies` number them.
        labels: (N,) of any type that sorts.

    Returns:
        bool (N,), True for every row of such a group.

    Raises:
        ValueError: where the lengths differ.
    """
    if len(groups) != len(labels):
        raise ValueError(f"{len(groups)} groups, but {len(labels)} labels: give one of each for a row")
    _, group = np.unique(groups, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
    highest = np.full(group.max(initial=-1) + 1, -1)
    np.minimum.at(lowest, group, label)
    np.maximum.at(highest, group, label)
    return np.asarray((lowest != highest)[group])


def without_common_class(groups: np.ndarray, named: np.ndarray) -> np.ndarray:
    """`contradicting` for labels that may name several classes: which rows are in a group whose labels have no class in common.

    Args:
        named: bool (N, C), the classes that the label of each row names.
    """
    _, group = np.unique(groups, return_inverse=True)
    common = np.ones((group.max(initial=-1) + 1, named.shape[1]), bool)
    np.logical_and.at(common, group, named)
    return np.asarray(~common.any(axis=1))[group]
