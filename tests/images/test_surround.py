"""What stands in air is told from what fills its frame."""

import numpy as np
import pytest

from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.images.surround import surround
from btc_ray.phantoms.phantom import LABELS, make_phantom
from tests.images.test_prepare import png


def crop(grey: np.ndarray) -> np.ndarray:
    pixels = prepare(png(grey), Preprocess()).pixels
    assert pixels is not None
    return pixels


def test_heads_have_dark_corners_whatever_the_level_of_the_air() -> None:
    heads = np.stack([crop(make_phantom(LABELS[seed % 4], seed=seed).pixels) for seed in range(12)])
    assert surround(heads).max() < 0.15
    assert surround(heads // 2 + 60) == pytest.approx(surround(heads), abs=0.02)


def test_what_fills_its_frame_has_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 224, 224)).astype(np.uint8)
    slope = np.tile(np.arange(224, dtype=np.uint8), (1, 224, 1))
    assert surround(noise).min() > 0.3
    assert surround(slope)[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("side", [16, 32, 160, 225])
def test_every_size_has_corners(side: int) -> None:
    bright = np.zeros((1, side, side), np.uint8)
    bright[:, side // 3 : -(side // 3)] = 255
    assert surround(bright).shape == (1,)


def test_a_blank_picture_has_none_and_no_pictures_none() -> None:
    assert np.isnan(surround(np.full((1, 64, 64), 9, np.uint8))).all()
    assert surround(np.zeros((0, 64, 64), np.uint8)).shape == (0,)
