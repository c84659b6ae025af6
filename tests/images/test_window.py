"""Numbers of any depth to grey levels, by percentiles of those that count."""

from typing import Any

import numpy as np
import pytest

from btc_ray.images.window import stretch, window

VALUES = np.random.default_rng(0).permutation(np.arange(10_000)).reshape(100, 100)


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float32, np.float64])
def test_half_a_per_cent_at_each_end_is_black_or_white(kind: Any) -> None:
    values = VALUES.astype(kind) - kind(3_000 if np.issubdtype(kind, np.signedinteger) else 0)
    grey, low, high = window(values)
    assert (grey.dtype, grey.shape) == (np.uint8, (100, 100))
    assert (low - values.min(), values.max() - high) == (49, 49)
    assert ((grey == 0).mean(), (grey == 255).mean()) == (
        pytest.approx(0.0069),
        pytest.approx(0.0069),
    )  # with what rounds to them


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, ">u2"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("odd", [(), (0,), (0, -1)], ids=["usual", "one end", "both ends"])
def test_counting_and_looking_up_gives_what_ordering_and_arithmetic_give(kind: Any, masked: bool, odd: tuple[int, ...]) -> None:
    random, limits = np.random.default_rng(len(odd)), np.iinfo(kind)
    values = np.clip(random.normal(60, 400, (90, 110)), limits.min, limits.max).astype(kind)
    values[0, list(odd)] = [limits.max, limits.min][: len(odd)]
    valid = random.random(values.shape) < 0.7 if masked else None
    grey, low, high = window(values, valid)
    ordered = np.sort(values if valid is None else values[valid], axis=None)
    rank = int(0.005 * (ordered.size - 1))
    ends = (float(ordered[rank]), float(ordered[-1 - rank]))
    if ends[0] == ends[1]:
        ends = (float(ordered[0]), float(ordered[-1]))
    assert (low, high) == ends
    assert np.array_equal(grey, stretch(values, low, high))


def test_percentiles_are_of_what_is_valid_and_finite() -> None:
    values = VALUES.astype(np.float32)
    values[:10] = np.nan
    values[10] = np.inf
    valid = np.zeros(values.shape, bool)
    valid[:50] = True
    grey, low, high = window(values, valid)
    seen = values[11:50]
    assert low >= seen.min()
    assert high <= seen.max()
    assert (grey[:10] == 0).all()
    assert (grey[10] == 255).all()


@pytest.mark.parametrize(
    ("values", "low", "high", "levels"),
    [
        ([7] * 1_000, 7, 7, {0}),
        ([0] * 999 + [4_000], 0, 4_000, {0, 255}),  # the percentiles are equal: the range is that of all
        ([0, 1], 0, 1, {0, 255}),
    ],
)
def test_where_percentiles_tell_nothing_the_whole_range_is_taken(
    values: list[int], low: float, high: float, levels: set[int]
) -> None:
    grey, *range_ = window(np.array(values, np.uint16))
    assert range_ == [low, high]
    assert set(grey.tolist()) == levels


def test_nothing_to_go_by_is_an_error() -> None:
    with pytest.raises(ValueError, match="NaN"):
        window(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="valid"):
        window(np.ones((3, 3)), np.zeros((3, 3), bool))
