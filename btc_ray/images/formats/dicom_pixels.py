"""Stored pixels of one frame → one upright grey picture: the order of steps is part of the preprocessing (`picture.ALGORITHM`)."""

import sys
from dataclasses import replace

import numpy as np

from btc_ray.images.errors import Unreadable
from btc_ray.images.formats.dicom_header import DicomHeader
from btc_ray.images.formats.orientation import squared, turn_of, turned
from btc_ray.images.formats.raster import luma
from btc_ray.images.picture import Picture, whole
from btc_ray.images.window import window


def numbers(raw: np.ndarray, header: DicomHeader) -> np.ndarray:
    """Stored words (H, W) → their numbers: bits above and below the stored ones are dropped, the sign is extended."""
    if raw.dtype.kind == "f":
        return raw
    bits = 8 * raw.dtype.itemsize
    values = raw.view(f"u{raw.dtype.itemsize}")
    stored, high_bit = min(header.stored, bits), min(header.high_bit, bits - 1)
    if high_bit < bits - 1:
        values = values << np.array(bits - 1 - high_bit, values.dtype)
    if header.signed:
        values = values.view(f"i{raw.dtype.itemsize}")
    return values >> np.array(bits - stored, values.dtype) if stored < bits else values


def picture(raw: np.ndarray, header: DicomHeader, frame: int, max_pixels: int) -> Picture:
    """One frame's stored words, native byte order (H, W) or RGB (H, W, 3) → a picture.

    Rescaling is linear, so that percentiles are taken of the stored numbers and rescaled after.
    """
    facts = header.facts(frame)
    if raw.ndim == 3:
        values = luma(np.ascontiguousarray(raw[..., ::-1]))
        grey = values.round().astype(np.uint8) if raw.dtype.itemsize == 1 else window(values)[0]
        return _shown(whole(grey), header, frame, max_pixels)
    values = numbers(raw, header)
    valid = None
    if header.padding is not None and values.dtype.kind != "f":
        first, last = _wrapped(header)
        inside = (values >= first) & (values <= last)
        if inside.any() and not inside.all():
            valid = ~inside
    slope = facts.slope if np.isfinite(facts.slope) else 1.0
    intercept = facts.intercept if np.isfinite(facts.intercept) else 0.0
    inverted = (header.photometric == "MONOCHROME1") != (slope < 0)
    if inverted:
        values = ~values if values.dtype.kind in "iu" else -values
    if values.dtype.kind == "u" and inverted and header.stored < 8 * values.dtype.itemsize:
        values &= np.array((1 << header.stored) - 1, values.dtype)
    try:
        grey, low, high = window(values if slope else np.zeros_like(values), valid)
    except ValueError as error:
        raise Unreadable("every pixel is NaN or infinite; export it again") from error
    if valid is not None:
        grey[~valid] = 0
    if inverted:
        low, high = (_back(value, values, header) for value in (low, high))
    return _shown(
        whole(grey, window_low=low * slope + intercept, window_high=high * slope + intercept), header, frame, max_pixels
    )


def _wrapped(header: DicomHeader) -> tuple[int, int]:
    """The padding range in the numbers' own signedness: writers give -2000 for words that are read as 63536, and the reverse."""
    assert header.padding is not None
    low, high = header.padding
    span = 1 << header.stored
    least, most = (-(span // 2), span // 2 - 1) if header.signed else (0, span - 1)
    return tuple(value if least <= value <= most else (value - least) % span + least for value in (low, high))  # type: ignore[return-value]


def _back(value: float, values: np.ndarray, header: DicomHeader) -> float:
    if values.dtype.kind == "f":
        return -value
    return (1 << min(header.stored, 8 * values.dtype.itemsize)) - 1 - value if values.dtype.kind == "u" else -1 - value


def _shown(stored: Picture, header: DicomHeader, frame: int, max_pixels: int) -> Picture:
    facts = header.facts(frame)
    turn = turn_of(facts.orientation)
    grey, down, across = stored.grey, facts.row_spacing, facts.column_spacing
    if turn is not None:
        grey = turned(grey, turn)
        down, across = (across, down) if turn.transpose else (down, across)
    grey = squared(grey, down, across, max_pixels)
    return replace(
        stored, grey=grey, width=grey.shape[1], height=grey.shape[0], plane=turn.plane if turn else None,
        oblique_deg=turn.oblique_deg if turn else None, geometry="affine" if turn else "none",
    )  # fmt: skip


def native(data: memoryview, header: DicomHeader) -> np.ndarray:
    """The bytes of one uncompressed frame → words in native order, (H, W) or (H, W, 3), without a copy where they are so already."""
    order = ">" if header.big_endian else "<"
    size = header.allocated // 8
    kind = header.float_type or f"u{size}"
    if size == 1 and header.big_endian and header.vr == "OW":
        words = np.frombuffer(data, ">u2").astype("<u2").view(np.uint8)
    else:
        words = np.frombuffer(data, np.dtype(order + kind))
    if (order == "<") != (sys.byteorder == "little"):
        words = words.astype(words.dtype.newbyteorder("="))
    words = words[: header.rows * header.columns * header.samples]
    if header.samples == 1:
        return words.reshape(header.rows, header.columns)
    if header.planar == 1:
        return np.moveaxis(words.reshape(header.samples, header.rows, header.columns), 0, 2)
    return words.reshape(header.rows, header.columns, header.samples)
