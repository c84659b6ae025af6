"""In which way two copies differ, through however many others they are linked: same file, same pixels, re-encoded, mirrored, turned."""

import functools

import numpy as np

from btc_ray.dataset.copies import Copies
from btc_ray.dataset.groups import connected
from btc_ray.dataset.likeness import TRANSFORMS

KINDS = ("same file", "same pixels", "re-encoded", "mirrored", "turned")
"""The closest first."""

_NAMES = tuple(TRANSFORMS)
_OF_TRANSFORM = {"identity": "re-encoded", "flip_lr": "mirrored", "flip_ud": "mirrored", "rot180": "mirrored"}  # else turned


def closest_kinds(copies: Copies, asked: np.ndarray, among: np.ndarray) -> np.ndarray:
    """How the closest copy that each row of `asked` has among the rows of `among` differs from it.

    A pair of copies need not have been compared: links between others join them, and the transforms on the way are combined.

    Args:
        copies: of N images.
        asked, among: bool (N,), no row in both.

    Returns:
        object (N,), a name of KINDS, or None where a row is not asked or has no copy there.
    """
    assert not (asked & among).any()
    found = np.full(len(copies.groups), None, object)
    laid = orientations(copies)
    present = np.zeros(copies.groups.max(initial=-1) + 1, np.int64)  # a bit for each way that members of `among` lie
    np.bitwise_or.at(present, copies.groups[among], 1 << laid[among])
    relative = _kinds_between()
    for kind in reversed(KINDS[2:]):  # the closest is written last
        for way in range(len(_NAMES)):
            there = asked & (present[copies.groups] >> way & 1 == 1)
            found[there & (relative[laid, way] == KINDS.index(kind))] = kind
    links = copies.pairs["kind"].to_pylist()
    for kind, same in (("same pixels", KINDS[:2]), ("same file", KINDS[:1])):
        rows = np.array([link in same for link in links], bool)
        first, second = (copies.pairs[end].to_numpy()[rows] for end in ("first", "second"))
        equal = connected(len(found), first, second)
        found[asked & np.isin(equal, equal[among])] = kind
    return found


def orientations(copies: Copies) -> np.ndarray:
    """How to lay each image on the first of its group: int64 (N,), numbers of TRANSFORMS."""
    product, inverse = _products()
    laid = np.full(len(copies.groups), -1, np.int64)
    links: dict[int, list[tuple[int, int]]] = {}
    columns = (copies.pairs[name].to_pylist() for name in ("first", "second", "transform"))
    for first, second, transform in zip(*columns, strict=True):
        number = _NAMES.index(transform)
        links.setdefault(first, []).append((second, number))  # second, laid by it, is first
        links.setdefault(second, []).append((first, int(inverse[number])))
    for row in range(len(laid)):
        if laid[row] >= 0:
            continue
        laid[row] = 0
        waiting = [row]
        while waiting:
            here = waiting.pop()
            for other, transform in links.get(here, ()):
                if laid[other] < 0:
                    laid[other] = product[laid[here], transform]
                    waiting.append(other)
    return laid


@functools.cache
def _products() -> tuple[np.ndarray, np.ndarray]:
    """int64 (8, 8): the transform that is the second and then the first; int64 (8,): the one that undoes it."""
    square = np.arange(9).reshape(3, 3)  # no two of the eight lay it alike
    ways = {TRANSFORMS[name](square).tobytes(): number for number, name in enumerate(_NAMES)}
    product = np.array([[ways[TRANSFORMS[a](TRANSFORMS[b](square)).tobytes()] for b in _NAMES] for a in _NAMES])
    return product, (product == 0).argmax(axis=1)


@functools.cache
def _kinds_between() -> np.ndarray:
    """int64 (8, 8): the position in KINDS of how images that lie so and so on a third differ from each other."""
    product, inverse = _products()
    names = [KINDS.index(_OF_TRANSFORM.get(name, "turned")) for name in _NAMES]
    return np.array([[names[product[inverse[a], b]] for b in range(len(_NAMES))] for a in range(len(_NAMES))])
