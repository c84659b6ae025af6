"""Numbers of any depth → 256 grey levels, by percentiles: a letter burned in at 65535 must not blacken a 12-bit head."""

import numpy as np

SHARE = 0.005
"""Of the values that become black, and as many white: the 0.5 and the 99.5 percentile. A head's own brightest half per cent is fat
and contrast agent, of which the model needs no more than that it is bright."""

_BAND = 2**22  # values that are brought to 8 bits at a time, as float64: 32 MB


def window(values: np.ndarray, valid: np.ndarray | None = None, *, share: float = SHARE) -> tuple[np.ndarray, float, float]:
    """Bring numbers to grey levels: those up to the lower percentile become 0, those from the upper one on 255.

    Args:
        values: (H, W) or any other shape, integers or floats. NaN and -inf become 0, +inf becomes 255.
        valid: bool, of the same shape: which values the percentiles are taken of; None for all that are finite.
        share: of the values that lie outside at each end; 0: from the smallest to the largest.

    Returns:
        (uint8 of the same shape, the value that became 0, the value that became 255). Where the percentiles are equal, the smallest and
        the largest value are taken; where those are equal too the picture is 0 everywhere.

    Raises:
        ValueError: no value is finite, or none is valid.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    seen, flat = _seen(values, valid), values.reshape(-1)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        first, last = int(values.min()), int(values.max())
        places = _places(flat, first)
        low, high = _counted_percentiles(places if valid is None else _places(seen, first), first, last, share)
        if last - first < values.size:  # each number once, and then looked up
            levels = stretch(np.arange(first, last + 1), low, high)
            return _looked_up(places, levels).reshape(values.shape), low, high
    else:
        low, high = _percentiles(seen, share)
    grey = np.empty(values.size, np.uint8)
    for start in range(0, flat.size, _BAND):
        grey[start : start + _BAND] = stretch(flat[start : start + _BAND], low, high)
    return grey.reshape(values.shape), low, high


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers from `low` to `high` → uint8 of 0 to 255, rounded; 0 everywhere where `low` is `high`."""
    if high == low:
        return np.zeros(values.shape, np.uint8)
    # Halves keep high - low finite for the largest doubles.
    with np.errstate(all="ignore"):  # NumPy warns on stderr of some NaN
        scaled = (values.astype(np.float64) * 0.5 - low * 0.5) * (255 / (high * 0.5 - low * 0.5))
    if values.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
    return scaled.round().clip(0, 255).astype(np.uint8)


def _seen(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    seen = values.reshape(-1) if valid is None else values[valid]
    if values.dtype.kind == "f":
        finite = np.isfinite(seen)
        seen = seen if finite.all() else seen[finite]
    if not seen.size:
        raise ValueError("every pixel is NaN, infinite or not valid")
    return seen


def _percentiles(seen: np.ndarray, share: float) -> tuple[float, float]:
    """The values at two ranks, nothing between two of them: exact for whole numbers."""
    ranks = _ranks(seen.size, share)
    if ranks[0]:
        ordered = np.partition(seen, ranks)
        low, high = (float(ordered[rank]) for rank in ranks)
        if high > low:
            return low, high
    return float(seen.min()), float(seen.max())


def _ranks(size: int, share: float) -> tuple[int, int]:
    rank = int(share * (size - 1))
    return rank, size - 1 - rank


def _places(values: np.ndarray, first: int) -> np.ndarray:
    """By how much each of the values (N,), at most 16 bits, lies above `first`, the smallest of them: uint8 or uint16 (N,)."""
    return values.view(f"u{values.dtype.itemsize}") - np.array(first).astype(f"u{values.dtype.itemsize}")


def _counted_percentiles(places: np.ndarray, first: int, last: int, share: float) -> tuple[float, float]:
    """As `_percentiles`, of `first` + `places`, by counting: a fifth of the time of ordering them in part."""
    counts = np.zeros(last - first + 1, np.int64)
    for start in range(0, places.size, _BAND):
        counts += np.bincount(places[start : start + _BAND], minlength=counts.size)
    low, high = np.searchsorted(counts.cumsum(), _ranks(places.size, share), side="right")
    if not high > low:
        low, high = np.flatnonzero(counts)[[0, -1]]
    return float(first + low), float(first + high)


def _looked_up(places: np.ndarray, levels: np.ndarray) -> np.ndarray:
    grey = np.empty(places.size, np.uint8)
    for start in range(0, places.size, _BAND):  # NumPy turns them into 8 bytes each
        levels.take(places[start : start + _BAND], out=grey[start : start + _BAND], mode="clip")
    return grey
