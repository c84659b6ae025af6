"""Where the head is: `robust_crop`, the default, and `kaggle_crop`, the data set author's method to the pixel.

Both promise a box within the image, and the whole image with the reason where they find no head. Neither ever raises for
a picture's content.
"""

from dataclasses import dataclass

import cv2
import numpy as np

CROPPED = "cropped"

# All lengths below are shares of the longer side, so that they carry over to any resolution.
_WORK_SIDE = 160  # px: the box is found on a copy this small; one pixel of it is 0.6 % of the image
_RING = 0.04  # the border strip that shows the background
_FRAME = 0.05  # a drawn frame lies at most this far from the edge
_GLYPH = 0.09  # letters, ticks and specks of noise are smaller than this both ways …
_STROKE = 0.035  # … and rulers and lines thinner than this one way
_GAP = 0.05  # gaps up to this between skull and brain are closed
_NECK = 0.06  # bridges thinner than this do not make two things one
_MARGIN = 0.002  # on top of the half pixel of the small copy that blurring adds
_PART = 0.05  # a part this large beside the largest belongs to the head: a brain split in two, a jaw

# Shares of the range between background and the brightest per cent of the picture.
_LEAST_SIGNAL = 0.07
_AIR = 0.12  # the noise of air lies below this, tissue above it

# Where a found box is not believed and the whole frame is kept instead.
_LEAST_AREA, _MOST_ASPECT, _MOST_OUTSIDE = 0.06, 3.0, 0.2
_SMALLEST_SIDE = 16  # px
_LEAST_CONTRAST = 6.0  # grey levels between background and the brightest per cent


@dataclass(frozen=True)
class Box:
    """A rectangle in original pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True)
class Crop:
    """A box, `cropped` or `full_frame: why`, and a doubt from 0 (sure) to 1 (look at it) to sort a contact sheet by."""

    box: Box
    status: str
    doubt: float


def robust_crop(grey: np.ndarray) -> Crop:
    """Find the head, or keep the whole frame and say why.

    The background level and its noise are read from the border, and whatever stands out from it is kept: gaps are closed, so
    that a brain which a dark skull separates from the scalp stays with it, and holes are filled. Letters, rulers and frame
    lines are dropped. A light page around the picture is background like a dark one. Under another resolution, brightness,
    contrast or noise the edges move by less than 2 % of the image in 95 of 100 real images, and else mostly drop faint ghosts.

    Args:
        grey: uint8 (H, W).
    """
    height, width = grey.shape
    if min(height, width) < _SMALLEST_SIDE:
        return _full_frame(grey, f"smaller than {_SMALLEST_SIDE} pixels", 1.0)
    small = _small(grey)
    signal = _signal(cv2.GaussianBlur(small, (3, 3), 0))
    if signal is None:
        return _full_frame(grey, "almost no contrast", 1.0)
    mask = _without_frame(cv2.threshold(signal, 0, 1, cv2.THRESH_BINARY)[1])
    signal = cv2.multiply(signal, mask)
    head = _joined(_without_writing(mask))
    x, y, w, h = cv2.boundingRect(head)
    if not w:
        return _full_frame(grey, "nothing larger than letters stands out from the background", 1.0)

    box = _in_original((x, y, w, h), small, grey)
    outside = 1 - cv2.sumElems(signal[y : y + h, x : x + w])[0] / cv2.sumElems(signal)[0]
    area = w * h / small.size
    aspect = max(box.w / box.h, box.h / box.w)
    if area < _LEAST_AREA:
        return _full_frame(grey, f"what stands out is only {area:.1%} of the image", 1.0)
    if aspect > _MOST_ASPECT:
        return _full_frame(grey, f"what stands out is {aspect:.1f} times as long as wide", 1.0)
    if outside > _MOST_OUTSIDE:
        return _full_frame(grey, f"{outside:.0%} of the signal lies outside the largest parts", 1.0)
    # Each reason for doubt reaches 1 where the image would be given up, or close to it.
    doubt = min(1.0, max(outside / _MOST_OUTSIDE, (0.3 - area) / 0.3, (aspect - 1.5) / (_MOST_ASPECT - 1.5), 0.0))
    if box.w * box.h >= 0.98 * grey.size:
        return _full_frame(grey, "the picture reaches all four edges", max(doubt, 0.1))
    return Crop(box, CROPPED, doubt)


def kaggle_crop(grey: np.ndarray) -> Crop:
    """The crop of the data set's author (M. Nickparvar), kept as published: constants in pixels and grey levels, end exclusive.

    Blur 3 × 3, threshold 45, erode twice, dilate twice, largest outer contour, its extreme points. The slice leaves out the
    last row and column, as the original does. Fails silently in 3 to 5 % of images; for comparison and reproduction.
    """
    blurred = cv2.GaussianBlur(grey, (3, 3), 0)
    mask = cv2.threshold(blurred, 45, 255, cv2.THRESH_BINARY)[1]
    mask = cv2.dilate(cv2.erode(mask, None, iterations=2), None, iterations=2)
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return _full_frame(grey, "nothing brighter than 45", 1.0)
    points = max(contours, key=cv2.contourArea).reshape(-1, 2)
    left, top = (int(value) for value in points.min(axis=0))
    right, bottom = (int(value) for value in points.max(axis=0))
    if right <= left or bottom <= top:
        return _full_frame(grey, "the largest bright part is a line", 1.0)
    box = Box(left, top, right - left, bottom - top)
    return Crop(box, CROPPED, max(0.0, 1 - 2 * box.w * box.h / grey.size))


def _full_frame(grey: np.ndarray, why: str, doubt: float) -> Crop:
    height, width = grey.shape
    return Crop(Box(0, 0, width, height), f"full_frame: {why}", doubt)


def _pixels(share: float, small: np.ndarray) -> int:
    return max(1, round(share * max(small.shape)))


def _small(grey: np.ndarray) -> np.ndarray:
    """The image on a grid whose longer side is `_WORK_SIDE` at most, every original pixel counted."""
    height, width = grey.shape
    shrink = max(height, width) / _WORK_SIDE
    # Halving by area is quick and counts every pixel; the rest, less than a half, is linear. A last odd row or column (less
    # than one pixel of the small copy) is left out; the box is scaled back to the full image.
    while max(grey.shape) >= 2 * _WORK_SIDE and min(grey.shape) > 1:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    if shrink <= 1:
        return grey
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR))


def _signal(small: np.ndarray) -> np.ndarray | None:
    """By how much each pixel stands out from the background, uint8 (h, w), 0 below the threshold; None without contrast."""
    ring = _pixels(_RING, small)
    border = np.concatenate([small[:ring].ravel(), small[-ring:].ravel(), small[:, :ring].ravel(), small[:, -ring:].ravel()])
    low, quarter, middle, high = _percentiles(_histogram(border), (5, 25, 50, 90))
    histogram = _histogram(small)
    dark, tenth, bright = _percentiles(histogram, (1, 10, 99))
    if bright - dark < _LEAST_CONTRAST:
        return None
    if low > dark + 0.6 * (bright - dark) and high - low < 0.15 * (bright - dark):  # a light page around the picture
        signal = cv2.subtract(np.full_like(small, middle), small)  # saturates at 0
        threshold = max(0.07 * (middle - dark), high - low)
    else:
        # The darkest quarter of the border is background even where a neck leaves the image; where the head fills the border
        # altogether the darkest tenth of the image still is.
        background = min(quarter, tenth)
        span = bright - background
        signal = cv2.subtract(small, np.full_like(small, background))
        threshold = max(_LEAST_SIGNAL * span, _air(histogram, background, span) + 0.05 * span)
    return np.asarray(cv2.threshold(signal, max(threshold, 2.0), 0, cv2.THRESH_TOZERO)[1])


def _histogram(values: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.calcHist([values], [0], None, [256], [0, 256])).ravel()


def _percentiles(histogram: np.ndarray, shares: tuple[int, ...]) -> list[int]:
    """Percentiles from a histogram of grey levels: a fifth of the time of sorting."""
    below = histogram.cumsum()
    return [int(level) for level in np.searchsorted(below, [share / 100 * below[-1] for share in shares])]


def _air(histogram: np.ndarray, background: int, span: int) -> float:
    """How far the noise of air lies above the background, in grey levels.

    Scanners fill the rim of a warped slice with zeros, so the border may show 0 where the air around the head is at 15 of 255.
    Air then is a hump of its own at the low end: its most frequent level, and how far it spreads upwards.
    """
    first, last = background + 1, background + 1 + max(2, int(_AIR * span))
    hump = histogram[first:last]
    if hump.sum() < 0.05 * histogram.sum():
        return 0.0
    peak = int(hump.argmax())
    below = hump[: peak + 1].cumsum()
    spread = peak - int(np.searchsorted(below, 0.32 * below[-1]))  # one standard deviation, from the lower flank
    return 1 + peak + 2 * spread if peak + 1 < hump.size else 0.0


def _without_frame(mask: np.ndarray) -> np.ndarray:
    """Clear drawn frame lines: rows or columns near an edge that are nearly full, with a nearly empty one behind them."""
    depth = _pixels(_FRAME, mask) + 2
    for view in (mask, mask[::-1], mask.T, mask.T[::-1]):
        filled = cv2.reduce(view[:depth], 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() / view.shape[1]
        full = np.flatnonzero(filled > 0.8)
        if full.size and (filled[full[-1] + 1 :] < 0.5).any():
            view[: full[-1] + 2] = 0  # one more: the line's blurred flank
    return mask


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    return list(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0])


def _filled(outlines: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, cv2.FILLED))


def _without_writing(mask: np.ndarray) -> np.ndarray:
    """Keep what is neither a letter, a tick, a ruler nor a speck by its extent; holes are filled on the way."""
    glyph, stroke = _pixels(_GLYPH, mask), _pixels(_STROKE, mask)
    kept = []
    for outline in _outlines(mask):
        _, _, w, h = cv2.boundingRect(outline)
        if max(w, h) > glyph and min(w, h) > stroke:
            kept.append(outline)
    return _filled(kept, mask)


def _joined(mask: np.ndarray) -> np.ndarray:
    """Close gaps, fill holes, cut thin bridges, and unite all sizeable parts: the head as one mask, uint8 (h, w)."""
    gap, neck = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, [_pixels(share, mask)] * 2) for share in (_GAP, _NECK))
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, gap)
    filled = _filled(_outlines(closed), mask)
    solid = cv2.morphologyEx(filled, cv2.MORPH_OPEN, neck)
    parts = _outlines(solid)
    areas = [cv2.contourArea(part) for part in parts]
    sizeable = _filled([part for part, area in zip(parts, areas, strict=True) if area >= _PART * max(areas)], mask)
    # Opening rounds off noses and ears: give back what lies next to a part that stays.
    return np.asarray(cv2.dilate(sizeable, neck) & filled)


def _in_original(found: tuple[int, int, int, int], small: np.ndarray, grey: np.ndarray) -> Box:
    """A box of the small copy in original pixels, with its margin, within the image."""
    (height, width), (x, y, w, h) = grey.shape, found
    across, down = width / small.shape[1], height / small.shape[0]
    margin = _MARGIN * max(width, height)
    left, right = max(0, int(x * across - margin)), min(width, int(np.ceil((x + w) * across + margin)))
    top, bottom = max(0, int(y * down - margin)), min(height, int(np.ceil((y + h) * down + margin)))
    return Box(left, top, right - left, bottom - top)
