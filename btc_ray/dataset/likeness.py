"""Are two pictures copies of one image? Aligned first, then compared edge by edge, so that a neighbouring slice does not pass.

What an editor changes (brightness, contrast, sharpness, compression) leaves edges where they were and pointing where they pointed;
another slice of the same head moves some of them. No threshold here depends on grey levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda picture: picture,
    "flip_lr": lambda picture: picture[:, ::-1],
    "flip_ud": lambda picture: picture[::-1],
    "rot180": lambda picture: picture[::-1, ::-1],
    "transpose": lambda picture: picture.T,
    "rot270": lambda picture: picture.T[:, ::-1],  # counter-clockwise, as in np.rot90
    "rot90": lambda picture: picture.T[::-1],
    "antitranspose": lambda picture: picture.T[::-1, ::-1],
}
"""The eight ways to lay a square on itself, each for a picture (S, S): four flips, and the same four after a transposition."""

COARSE, FINE = 64, 128  # px: the side at which pictures are aligned, and at which edges are compared
_TILES = 8  # a side; 16 px each
_WORST = 0.15  # the share of tiles that may disagree: writing, a drawn arrow, a corner cut off
_LEAST_EDGES = 0.3  # of the mean of all tiles; a tile with fewer is air and says nothing
# Side in px, steps at most, and the correlation below which a pair is given up. Copies reach 0.88 and 0.85 even when sharpened until
# they look engraved; of other candidates nine in ten stay below 0.84 and 0.77.
_LEVELS = ((32, 6, 0.85), (COARSE, 15, 0.8))
_MOST_SCALE, _MOST_SHIFT, _MOST_SHEAR = 0.2, 0.15, 0.05  # beyond, two crops do not show the same frame
_BLANK = 0.5  # grey levels, RMS of what is left when the picture's own blur is taken off


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparable:
    """One picture, made ready to be compared with others."""

    textures: tuple[np.ndarray, ...]  # float32, `texture` at the sides of `_LEVELS`
    small: np.ndarray  # uint8 (FINE, FINE)


def texture(pixels: np.ndarray) -> np.ndarray:
    """What is left of a picture without its brightness and local contrast: float32 (COARSE, COARSE); zeros for a blank one.

    A band of frequencies, divided by its local amplitude (local contrast normalisation).

    Args:
        pixels: uint8 (S, S).
    """
    small = _resized(pixels, COARSE).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), COARSE / 96)
    band = small - cv2.GaussianBlur(small, (0, 0), COARSE / 19)
    energy = cv2.multiply(band, band)
    level = float(np.sqrt(energy.mean()))
    if level < _BLANK:
        return np.zeros((COARSE, COARSE), np.float32)
    return np.asarray(band / (np.sqrt(cv2.GaussianBlur(energy, (0, 0), COARSE / 19)) + 0.5 * level))


def comparable(pixels: np.ndarray) -> Comparable:
    """The picture made ready; uint8 (S, S) of any side."""
    whole = texture(pixels)
    smooth = cv2.GaussianBlur(whole, (0, 0), 1.2)
    levels = tuple(
        whole if side == COARSE else cv2.resize(smooth, (side, side), interpolation=cv2.INTER_AREA) for side, *_ in _LEVELS
    )
    return Comparable(textures=levels, small=_resized(pixels, FINE))


def likeness(first: Comparable, second: Comparable, transform: str, start: Sequence[float] = (1, 0, 1, 0)) -> float:
    """How well the edges of `second`, laid by `transform`, agree with those of `first`: -1 to 1; copies have 0.82 and more.

    The mean of two numbers: the cosine of the angle between the two gradients, averaged over the picture with the weight
    of the weaker edge (a saturated or blurred edge counts little), and the same in the worst tiles (15th percentile of 8 × 8).

    First both are brought to cover by an affine map of a few per cent (ECC: Evangelidis and Psarakis, 2008), for crops of
    two copies differ by some pixels. -1 where none is found. The search begins at `start`: where a place of `first`, 0 to 1
    across and down, is guessed to lie in the laid `second`, as x scale, x shift, y scale, y shift.
    """
    turn = TRANSFORMS[transform]
    warp = _alignment(first.textures, tuple(np.ascontiguousarray(turn(level)) for level in second.textures), start)
    if warp is None:
        return -1.0
    small = np.ascontiguousarray(turn(second.small))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    aligned = cv2.warpAffine(small, warp, (FINE, FINE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(small), warp, (FINE, FINE), flags=flags)
    return _agreement(first.small, aligned, inside)


def _alignment(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...], start: Sequence[float]) -> np.ndarray | None:
    """Float32 (2, 3): pixels of `first` to pixels of `second`, at the side FINE; None where they do not cover."""
    reached = _LEVELS[0][0]
    x, shift_x, y, shift_y = start  # the middle of pixel 0 lies at 0.5
    warp = np.array([[x, 0, shift_x * reached + 0.5 * x - 0.5], [0, y, shift_y * reached + 0.5 * y - 0.5]], np.float32)
    for (side, steps, least), target, picture in zip(_LEVELS, first, second, strict=True):
        warp, reached = _scaled(warp, side / reached), side
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, 1e-4)
        try:
            correlation, warp = cv2.findTransformECC(target, picture, warp, cv2.MOTION_AFFINE, stop, None, 1)
        except cv2.error:  # does not converge
            return None
        if correlation < least:
            return None
    off = np.abs(warp[:, :2] - np.eye(2))
    # The shift of the centre, not of the corner: a scale alone moves the corner.
    shift = warp @ (COARSE / 2, COARSE / 2, 1) - COARSE / 2
    if (
        off.diagonal().max() > _MOST_SCALE
        or off[::-1].diagonal().max() > _MOST_SHEAR
        or np.abs(shift).max() > _MOST_SHIFT * COARSE
    ):
        return None
    return _scaled(warp, FINE / reached)


def _scaled(warp: np.ndarray, scale: float) -> np.ndarray:
    """The same map between pictures `scale` times as large. The middle of pixel x lies at (x + 0.5) × scale - 0.5."""
    middle = 0.5 * scale - 0.5
    shift = scale * warp[:, 2] + middle - warp[:, :2] @ (middle, middle)
    return np.concatenate([warp[:, :2], shift[:, None]], axis=1).astype(np.float32)


def _agreement(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    (ax, ay, a), (bx, by, b) = _edges(first), _edges(second)
    weight = np.minimum(a, b) * inside
    agreeing = weight * (ax * bx + ay * by) / (a * b)
    total = float(weight.sum())
    if not total:
        return -1.0
    side = FINE // _TILES
    weights, agreements = (
        field.reshape(_TILES, side, _TILES, side).sum(axis=(1, 3), dtype=np.float64).ravel() for field in (weight, agreeing)
    )
    telling = weights > _LEAST_EDGES * weights.mean()
    tiles = np.sort(agreements[telling] / weights[telling])
    return 0.5 * float(agreements.sum()) / total + 0.5 * float(tiles[int(_WORST * len(tiles))])


def _edges(small: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient x, y and its magnitude over the magnitude around it, each float32 (FINE, FINE)."""
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0)
    x, y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1)
    magnitude = cv2.magnitude(x, y)
    # A quarter of the mean keeps the noise of air from counting as edges.
    around = cv2.GaussianBlur(magnitude, (0, 0), 6.0) + (0.25 * float(magnitude.mean()) + 1e-3)
    return x / around, y / around, magnitude / around + 1e-6


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    shrinks = pixels.shape[0] > side
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
