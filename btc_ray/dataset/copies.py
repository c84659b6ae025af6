"""Groups of copies in a set of images: duplicates, re-encoded, resized, brightened, sharpened, mirrored and turned ones.

Other slices of the same head are not copies. Time and memory grow about linearly with the images, however many are alike.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
import pyarrow as pa

from btc_ray.dataset.groups import connected, contradicting, join_groups
from btc_ray.dataset.likeness import TRANSFORMS, Comparable, comparable, likeness
from btc_ray.dataset.neighbours import candidates, describe
from btc_ray.progress import Progress

__all__ = ["LEAST_LIKENESS", "PAIRS", "Copies", "contradicting", "find_copies", "join_groups"]

LEAST_LIKENESS = 0.82
"""Pairs with this `likeness` and more are copies. Set on real pairs that were looked at: of 100 below and 100 above none was wrong.

Neighbouring slices reach 0.807, copies sharpened until they look engraved start at 0.826."""

PAIRS = pa.schema(
    [
        ("first", pa.int64()),
        ("second", pa.int64()),
        ("transform", pa.string()),
        ("correlation", pa.float32()),
        ("kind", pa.string()),
    ]
)

_WINDOW = 4096  # pairs looked at together
_MOST_FACES = 8192  # kept at a time: 0.3 GB
_NAMES = list(TRANSFORMS)
_KINDS = {"identity": "re-encoded", "flip_lr": "mirrored", "flip_ud": "mirrored", "rot180": "mirrored"}  # else turned


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """What `find_copies` found.

    Attributes:
        groups: int64 (N,): the number of each image's group, 0.. in order of first member; a lone image is a group of its own.
        pairs: the confirmed pairs that made the groups, `PAIRS`, in order of `second`. A group of n images has n - 1: two images
            that are in one group already are not compared. `transform` lays `second` on `first`; `correlation` is
            their `likeness`, 1 for equal pixels; `kind` is "same file", "same pixels", "re-encoded" (anything else that is
            upright), "mirrored" (flips and 180°) or "turned" (the 90° ones).
    """

    groups: np.ndarray
    pairs: pa.Table


def find_copies(pixels: np.ndarray, content_sha256: Sequence[str] | None = None) -> Copies:
    """Group the copies among `pixels`. The same input gives the same groups.

    Equal files and equal pixels by hash; then each image's nearest neighbours under flips and turns (`neighbours`), the better first,
    confirmed one by one (`likeness`). Images without any structure are one group.

    Args:
        pixels: uint8 (N, S, S), crops; may be a memory map.
        content_sha256: N hashes of the files, if known; they tell "same file" from "same pixels".

    Raises:
        ValueError: for another type or shape, or hashes of another number.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or not pixels.shape[1]:
        raise ValueError(f"copies are looked for in uint8 (N, S, S) crops; these are {pixels.dtype} {pixels.shape}")
    if content_sha256 is not None and len(content_sha256) != len(pixels):
        raise ValueError(f"{len(pixels)} images, but {len(content_sha256)} hashes of files: give one for each, or None")
    links, unique = _equal(pixels, content_sha256)
    with _one_thread_a_call(), ThreadPoolExecutor(_threads()) as executor:
        descriptors = describe(pixels, unique, executor)
        structured = descriptors.any(axis=(1, 2))
        blank, unique = unique[~structured], unique[structured]
        links += [(int(blank[0]), int(row), "identity", 1.0, "re-encoded") for row in blank[1:]]
        links += _confirmed(pixels, unique, descriptors[structured], executor)
    links.sort(key=lambda link: (link[1], link[0]))
    pairs = pa.Table.from_arrays(
        [pa.array([link[column] for link in links], kind) for column, kind in enumerate(PAIRS.types)], schema=PAIRS
    )
    return Copies(groups=connected(len(pixels), pairs["first"].to_numpy(), pairs["second"].to_numpy()), pairs=pairs)


_Link = tuple[int, int, str, float, str]
_Pair = tuple[int, int, list[int], list[list[float]]]  # a row of `Candidates`


def _equal(pixels: np.ndarray, content_sha256: Sequence[str] | None) -> tuple[list[_Link], np.ndarray]:
    """Links of images with equal files or equal pixels to the first such image, and the positions of those that are like none before."""
    links: list[_Link] = []
    files: dict[str, int] = {}
    pictures: dict[bytes, int] = {}
    unique = []
    for row in range(len(pixels)):
        if content_sha256 is not None and (opening := files.setdefault(content_sha256[row], row)) != row:
            links.append((opening, row, "identity", 1.0, "same file"))
            continue
        digest = hashlib.blake2b(pixels[row].tobytes(), digest_size=16).digest()
        if (opening := pictures.setdefault(digest, row)) != row:
            links.append((opening, row, "identity", 1.0, "same pixels"))
        else:
            unique.append(row)
    return links, np.array(unique, np.int64)


def _confirmed(pixels: np.ndarray, rows: np.ndarray, descriptors: np.ndarray, executor: Executor) -> list[_Link]:
    """Links between the images `rows`, by likeness; those joined already by candidates before them are not looked at."""
    found = candidates(descriptors, executor)
    parents: dict[int, int] = {}
    links: list[_Link] = []
    comparables: dict[int, Comparable] = {}
    with Progress("Compared", len(found.first), unit="pairs") as progress:
        for start in range(0, len(found.first), _WINDOW):
            part = slice(start, start + _WINDOW)
            columns = found.first[part], found.second[part], found.transforms[part], found.maps[part]
            pairs: list[_Pair] = list(zip(*(column.tolist() for column in columns), strict=True))
            links += _confirmed_in(pairs, parents, comparables, pixels, rows, executor)
            progress.advance(len(pairs))
    return links


def _confirmed_in(
    pairs: list[_Pair],
    parents: dict[int, int],
    comparables: dict[int, Comparable],
    pixels: np.ndarray,
    rows: np.ndarray,
    executor: Executor,
) -> list[_Link]:
    """Links of a window of pairs; joins `parents` and adds to `comparables`."""
    links: list[_Link] = []
    while pairs:
        # First those that join something even if all before them turn out as copies: of n alike n - 1 are compared, not n²/2.
        hoped: dict[int, int] = {}
        now: list[_Pair] = []
        later: list[_Pair] = []
        for pair in pairs:
            ends = _root(parents, pair[0]), _root(parents, pair[1])
            if ends[0] != ends[1]:
                (now if _join(hoped, *ends) else later).append(pair)
        _make_faces(comparables, sorted({position for pair in now for position in pair[:2]}), pixels, rows, executor)
        compared = _in_parallel(executor, lambda pair: _compare(pair, comparables), now)
        for (first, second, *_), (transform, value) in zip(now, compared, strict=True):
            if value >= LEAST_LIKENESS and _join(parents, first, second):
                low, high = sorted((int(rows[first]), int(rows[second])))
                links.append((low, high, transform, value, _KINDS.get(transform, "turned")))
        pairs = later
    return links


def _make_faces(
    comparables: dict[int, Comparable], needed: list[int], pixels: np.ndarray, rows: np.ndarray, executor: Executor
) -> None:
    """Add the comparables of the images `rows[needed]` that are not there; when there are too many, the oldest of the others go."""
    missing = [position for position in needed if position not in comparables]
    surplus = len(comparables) + len(missing) - _MOST_FACES
    if surplus > 0:
        kept = set(needed)
        for position in list(islice((position for position in comparables if position not in kept), surplus)):
            del comparables[position]
    made = _in_parallel(executor, lambda position: comparable(pixels[rows[position]]), missing)
    comparables.update(zip(missing, made, strict=True))


def _compare(pair: _Pair, comparables: dict[int, Comparable]) -> tuple[str, float]:
    """The best of the pair's transforms and the likeness under it."""
    first, second, transforms, maps = pair
    tried = [
        (name, likeness(comparables[first], comparables[second], name, start))
        for name, start in ((_NAMES[number], start) for number, start in zip(transforms, maps, strict=True) if number >= 0)
    ]
    return max(tried, key=lambda one: one[1])


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _in_parallel(executor: Executor, function: Callable[[_Item], _Result], items: list[_Item]) -> list[_Result]:
    """`function` of each item, in order; 32 to a task, for a task of its own costs as much as a small one's work."""
    tasks = [items[start : start + 32] for start in range(0, len(items), 32)]
    return [result for results in executor.map(lambda task: [function(item) for item in task], tasks) for result in results]


def _root(parents: dict[int, int], position: int) -> int:
    """The representative of a position's set; who has no parent is his own. Kept short by halving the way on each walk."""
    while (parent := parents.get(position, position)) != position:
        parents[position] = parents.get(parent, parent)
        position = parents[position]
    return position


def _join(parents: dict[int, int], first: int, second: int) -> bool:
    """Make two sets one, under the lower representative; False where they are one already."""
    low, high = sorted((_root(parents, first), _root(parents, second)))
    if low != high:
        parents[high] = low
    return low != high


@contextmanager
def _one_thread_a_call() -> Iterator[None]:
    """OpenCV would share each small picture between its own threads, which wait at full speed beside ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
