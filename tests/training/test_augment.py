"""Random changes do what they say, to every image its own, and nothing where they are switched off."""

import numpy as np
import pytest
import torch

from btc_ray.settings.recipe import RECIPES, Recipe
from btc_ray.training.augment import FLIPS, Changes, apply, draw, shrunk

PLAIN = RECIPES["all"].changed(rotate=0.0, scale=0.0, shift=0.0, intensity=0.0, erase=0.0, flips=False)
COUNT = 200


def changed(recipe: Recipe, pixels: torch.Tensor, side: int = 32) -> tuple[torch.Tensor, Changes]:
    changes = draw(recipe, len(pixels), np.random.default_rng(0))
    return apply(pixels, changes, np.arange(len(pixels)), recipe=recipe, side=side), changes


def noise(count: int = COUNT, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, side, side), dtype=np.uint8))


def test_nothing_changes_where_everything_is_off() -> None:
    found, _ = changed(PLAIN, noise())
    assert torch.equal(found, noise().unsqueeze(1).float() / 255)


def test_flips_are_the_reports_each_with_probability_one_half() -> None:
    found, changes = changed(PLAIN.changed(flips=True), noise())
    for image, before, number in zip(found, shrunk(noise(), 32), changes.flips, strict=True):
        assert torch.equal(image, torch.flip(before, FLIPS[number]))
    assert np.bincount(changes.flips, minlength=4).min() > COUNT / 4 - 3 * np.sqrt(COUNT * 3 / 16)


def test_a_shift_moves_by_its_share_of_the_side() -> None:
    dot = torch.zeros(COUNT, 41, 41, dtype=torch.uint8)
    dot[:, 20, 20] = 255
    found, _ = changed(PLAIN.changed(shift=0.2), dot, side=41)
    mass = found.squeeze(1) / found.sum(dim=(1, 2, 3)).view(-1, 1, 1)
    away = (mass.sum(1) @ torch.arange(41.0)) - 20
    assert away.abs().max() <= 0.2 * 41 + 0.1
    assert away.std() > 0.2 * 41 / 3


def test_a_turn_keeps_the_centre_and_the_distance_from_it() -> None:
    dot = torch.zeros(COUNT, 41, 41, dtype=torch.uint8)
    dot[:, 19:22, 29:32] = 255
    found, _ = changed(PLAIN.changed(rotate=30), dot, side=41)
    mass = found.squeeze(1) / found.sum(dim=(1, 2, 3)).view(-1, 1, 1)
    x, y = (mass.sum(1) @ torch.arange(41.0)) - 20, (mass.sum(2) @ torch.arange(41.0)) - 20
    assert torch.hypot(x, y).sub(10).abs().max() < 0.5
    turned = torch.rad2deg(torch.atan2(y, x))
    assert turned.abs().max() < 32
    assert turned.std() > 10


def test_black_stays_black_whatever_happens_to_intensities() -> None:
    found, _ = changed(PLAIN.changed(intensity=0.5), torch.zeros(COUNT, 16, 16, dtype=torch.uint8), side=16)
    assert found.abs().max() == 0
    found, _ = changed(PLAIN.changed(intensity=0.3), noise())
    assert found.min() >= 0
    assert found.max() <= 1


def test_erasing_fills_a_rectangle_with_the_mean_as_often_as_asked() -> None:
    found, changes = changed(PLAIN.changed(erase=0.5), noise())
    touched = (found != shrunk(noise(), 32)).flatten(1).any(1).numpy()
    assert touched.tolist() == (changes.erased[:, 2] > 0).tolist()
    assert touched.mean() == pytest.approx(0.5, abs=0.12)


def test_an_images_changes_do_not_depend_on_the_batch_it_is_in() -> None:
    recipe = RECIPES["all"].changed(erase=0.5)
    whole, changes = changed(recipe, noise(20))
    rows = np.array([3, 7, 11])
    torch.testing.assert_close(apply(noise(20)[rows], changes, rows, recipe=recipe, side=32), whole[rows])


@pytest.mark.parametrize(("side", "expected"), [(16, 16), (32, 32), (48, 48)])
def test_images_are_brought_to_the_resolution_of_the_epoch(side: int, expected: int) -> None:
    assert changed(PLAIN, noise(3), side=side)[0].shape == (3, 1, expected, expected)
