"""Which pictures are worth comparing: an index over descriptors that are the same for a picture and its mirrored and turned copies.

A cosine transform knows flips as signs and turns as a transposition, so one query finds a picture's copies under all eight.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from btc_ray.dataset.likeness import COARSE, texture

NEIGHBOURS = 24  # looked at for each picture, itself included; with 16 one large group of the 1,935 real ones falls in two
LEAST_CORRELATION = 0.5  # of descriptors as they lie; two crops of one image that differ by a tenth of the head reach 0.7
LEAST_COVERED = 0.82  # after shift and scale; 99 of 100 copies that were cut, laid, relit, resized and recoded reach it
_BAND = 0.03  # of what is covered
_ALTERNATIVE = 0.1  # heads are nearly symmetric: a transform this close to the best is worth a try too

_FREQUENCIES = 12  # half waves a side; 11 of them across a head of 224 px: 20 px each
_THUMBNAIL = 16  # px a side
_STEPS, _LONGEST_STEP = 2, 0.1  # the latter of the side
_EXACT = 30_000  # pictures; up to here every descriptor is compared with every other, 9 s of arithmetic on one core
_LIST = 256  # descriptors in a list of the inverted file, so that a million have 3,906 lists
_PROBED = 16  # lists looked at for one query
_MOST_COMPARED = 65_536  # descriptors for one query, however many pictures look the same
_CHUNK = 8_192
_PART = 1_024  # pairs: 20 MB of pictures and their slopes a thread


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Pairs worth comparing: positions `first` < `second` int64 (P,), and for each the transforms to try.

    The better ones come first, in bands of `_BAND` and within a band by position: what lies together is made ready together.

    A map says where a place of `first`, 0 to 1 across and down, lies in the laid `second`: x scale, x shift, y scale, y shift.
    """

    first: np.ndarray
    second: np.ndarray
    transforms: np.ndarray  # int8 (P, 2): numbers of `TRANSFORMS`, the better first; -1 for none
    maps: np.ndarray  # float32 (P, 2, 4), one for each transform


def describe(pixels: np.ndarray, rows: np.ndarray, executor: Executor) -> np.ndarray:
    """Descriptors of the pictures `pixels[rows]`: float32 (len(rows), 12, 12), of length 1; zeros for a blank picture.

    The lowest frequencies of `texture`, the higher ones damped, so that a shift of two per cent does not matter.

    Args:
        pixels: uint8 (N, S, S).
        rows: integers.
    """
    frequency = np.arange(_FREQUENCIES)
    waves = np.cos(np.pi / COARSE * np.outer(frequency, np.arange(COARSE) + 0.5)).astype(np.float32)
    damping = np.exp(-(frequency[:, None] ** 2 + frequency**2) / (2 * 7.0**2)).astype(np.float32)
    damping[0, 0] = 0  # the mean is no structure
    found = np.empty((len(rows), _FREQUENCIES, _FREQUENCIES), np.float32)
    parts = [slice(start, start + 256) for start in range(0, len(rows), 256)]
    textures = executor.map(lambda part: np.stack([texture(pixels[row]) for row in rows[part]]), parts)
    for part, batch in zip(parts, textures, strict=True):
        found[part] = damping * (waves @ batch @ waves.T)
    length = np.linalg.norm(found, axis=(1, 2), keepdims=True)
    return found / np.where(length > 0, length, 1)


def candidates(descriptors: np.ndarray, executor: Executor) -> Candidates:
    """Pairs whose descriptors correlate under one of the eight transforms, out of the nearest `NEIGHBOURS` of each picture.

    Time grows about linearly: in a million pictures each is compared with 8,000 (`_LIST`, `_PROBED`).
    """
    count = len(descriptors)
    search = _index(descriptors)
    keys = []
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count))
        near = search(_invariant(descriptors[rows]))
        here = np.repeat(rows, near.shape[1])
        near = near.ravel()
        real = (near >= 0) & (near != here)
        keys.append(np.minimum(here, near)[real] * count + np.maximum(here, near)[real])
    pairs = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    first, second = pairs // max(count, 1), pairs % max(count, 1)

    def good(start: int) -> tuple[np.ndarray, ...]:
        part = slice(start, start + _PART)
        covered, transforms, maps = _best_transforms(descriptors[first[part]], descriptors[second[part]])
        kept = covered >= LEAST_COVERED
        return first[part][kept], second[part][kept], covered[kept], transforms[kept], maps[kept]

    parts = list(executor.map(good, range(0, len(pairs), _PART)))
    if not parts:
        none = np.zeros(0, np.int64)
        return Candidates(first=none, second=none, transforms=np.zeros((0, 2), np.int8), maps=np.zeros((0, 2, 4), np.float32))
    first, second, covered, transforms, maps = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((second, first, np.floor((1 - covered) / _BAND)))
    return Candidates(first=first[order], second=second[order], transforms=transforms[order], maps=maps[order])


def _invariant(descriptors: np.ndarray) -> np.ndarray:
    """The same numbers for all eight: no signs, and of a frequency and its transposed one the larger and the smaller.

    Float32 (n, 143). Two of them are never further apart than the nearest transforms of their descriptors, so nothing gets lost.
    """
    size = np.abs(descriptors)
    turned = size.transpose(0, 2, 1)
    upper, below = np.triu_indices(_FREQUENCIES), np.tril_indices(_FREQUENCIES, -1)
    larger, smaller = np.maximum(size, turned), np.minimum(size, turned)
    return np.ascontiguousarray(np.concatenate([larger[:, *upper][:, 1:], smaller[:, *below]], axis=1))


def _index(descriptors: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from queries (n, 143) to the positions of their nearest descriptors, int64 (n, NEIGHBOURS), -1 for none."""
    import faiss

    count = len(descriptors)
    width = _FREQUENCIES**2 - 1
    flat = faiss.IndexFlatL2(width)
    wanted = min(NEIGHBOURS, count)
    if count <= _EXACT:
        flat.add(_invariant(descriptors))
        return lambda queries: flat.search(queries, wanted)[1]
    lists = count // _LIST
    inverted = faiss.IndexIVFFlat(flat, width, lists)
    inverted.cp.seed, inverted.cp.niter = 1, 8
    step = max(1, count // (lists * 50))
    inverted.train(_invariant(descriptors[::step]))
    for start in range(0, count, _CHUNK):
        inverted.add(_invariant(descriptors[start : start + _CHUNK]))
    limits = faiss.SearchParametersIVF(nprobe=_PROBED, max_codes=_MOST_COMPARED)  # type: ignore[call-arg]
    return lambda queries: inverted.search(queries, wanted, params=limits)[1]


def _best_transforms(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How well `second` (n, 12, 12), best laid, covers `first`, float32 (n,); the transforms worth a try and their maps (`Candidates`)."""
    odd = np.where(np.arange(_FREQUENCIES) % 2, -1, 1)
    signs = np.stack([np.ones((_FREQUENCIES, _FREQUENCIES)), odd + 0 * odd[:, None], odd[:, None] + 0 * odd, odd * odd[:, None]])
    signs = signs.astype(np.float32)  # as it is, flipped left-right, up-down, both
    turned = np.ascontiguousarray(second.transpose(0, 2, 1))
    flat = signs.reshape(4, -1).T
    correlation = np.concatenate([(first * laid).reshape(len(first), -1) @ flat for laid in (second, turned)], axis=1)
    order = np.argsort(-correlation, axis=1, kind="stable")[:, :2].astype(np.int8)
    chosen = np.take_along_axis(correlation, order, axis=1)
    tried = chosen >= np.maximum(chosen[:, :1] - _ALTERNATIVE, LEAST_CORRELATION)
    covered = np.zeros(order.shape, np.float32)
    maps = np.zeros((*order.shape, 4), np.float32)
    for place in range(2):
        rows = np.flatnonzero(tried[:, place])
        number = order[rows, place]
        laid = np.where((number < 4)[:, None, None], second[rows], turned[rows]) * signs[number % 4]
        covered[rows, place], maps[rows, place] = _covered(first[rows], laid)
    order[covered < LEAST_COVERED] = -1
    swap = covered[:, 1] > covered[:, 0]
    order[swap], maps[swap] = order[swap, ::-1], maps[swap, ::-1]
    return covered.max(axis=1), order, maps


def _covered(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of `first` with `second` after shift and scale along both axes, float32 (n,), and those as maps (n, 4).

    Gauss and Newton's steps on thumbnails. From a cosine transform a picture can be had at any place, so each step starts from
    the picture itself. The correlation is that with the picture and its four derivatives: what one more step would reach
    (a tangent distance: Simard, LeCun and Denker, 1993).
    """
    axis = ((np.arange(_THUMBNAIL) + 0.5) / _THUMBNAIL).astype(np.float32)
    frequency = np.pi * np.arange(_FREQUENCIES, dtype=np.float32)[:, None]
    waves = np.cos(frequency * axis)
    target = (waves.T @ first @ waves).reshape(len(first), _THUMBNAIL**2, 1)
    maps = np.tile(np.array([1, 0, 1, 0], np.float32), (len(first), 1))
    for step in range(_STEPS + 1):
        across, down = (np.cos(frequency * (maps[:, [k]] * axis + maps[:, [k + 1]])[:, None]) for k in (0, 2))
        picture = down.transpose(0, 2, 1) @ second @ across
        by_y, by_x = (slope * _THUMBNAIL for slope in np.gradient(picture, axis=(1, 2)))
        basis = np.stack([picture, by_x * axis, by_x, by_y * axis[:, None], by_y], axis=1).reshape(len(first), 5, _THUMBNAIL**2)
        gram = basis @ basis.transpose(0, 2, 1)
        gram += 1e-6 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(5, dtype=np.float32)
        share = basis @ target
        found = np.linalg.solve(gram, share)[:, :, 0]
        if step < _STEPS:
            change = found[:, 1:] / np.maximum(found[:, :1], 0.3)  # bounded, for where the pictures have nothing in common
            change = np.clip(change, -_LONGEST_STEP, _LONGEST_STEP)
            for k in (0, 2):
                maps[:, k + 1] += maps[:, k] * change[:, k + 1]
                maps[:, k] *= 1 + change[:, k]
    explained = (share[:, :, 0] * found).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(explained, 0) / (target * target).sum(axis=(1, 2)))), maps
