"""Changes of appearance happen as often as asked, to every image its own, and leave shapes where they are."""

import numpy as np
import pytest
import torch

from btc_ray.settings.recipe import RECIPES
from btc_ray.training.appearance import KNOTS, Appearance, apply_appearance, changed_crops, draw_appearance
from btc_ray.training.augment import FLIPS, draw

COUNT, SIDE = 400, 32
STRAIGHT = np.linspace(0, 1, KNOTS, dtype=np.float32)


def disc(count: int = 1, side: int = 64) -> torch.Tensor:
    """A grey disc in black air, float32 (count, 1, side, side)."""
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return torch.from_numpy(np.where(np.hypot(x, y) < side / 3, 0.6, 0).astype(np.float32)).expand(count, 1, side, side).clone()


def untouched(count: int = 1, **changes: object) -> Appearance:
    values = {
        "curves": np.tile(STRAIGHT, (count, 1)),
        "details": np.ones(count, np.float32),
        "sharpness": np.zeros(count, np.float32),
        "noises": np.zeros(count, np.float32),
        "qualities": np.zeros(count, np.int64),
        "seeds": np.arange(count),
    }
    return Appearance(**{**values, **changes})  # type: ignore[arg-type]


def applied(changes: Appearance, count: int = 1) -> torch.Tensor:
    return apply_appearance(disc(count), changes, np.arange(count))


def test_each_change_happens_as_often_as_asked_and_independently() -> None:
    drawn = draw_appearance(0.3, COUNT, np.random.default_rng(0))
    happened = np.stack(
        [
            (drawn.curves != STRAIGHT).any(axis=1),
            (drawn.details < 1) | (drawn.sharpness > 0),
            drawn.noises > 0,
            drawn.qualities > 0,
        ]
    )
    tolerance = 4 * np.sqrt(0.3 * 0.7 / COUNT)
    assert np.abs(happened.mean(axis=1) - 0.3).max() < tolerance
    assert abs((happened[0] & happened[3]).mean() - 0.09) < tolerance
    assert not ((drawn.details < 1) & (drawn.sharpness > 0)).any()


def test_curves_rise_and_leave_black_black() -> None:
    curves = draw_appearance(1, COUNT, np.random.default_rng(0)).curves
    assert (np.diff(curves, axis=1) >= 0).all()
    assert (curves[:, 0] == 0).all()
    assert curves.max() <= 1


def test_nothing_changes_where_nothing_was_drawn() -> None:
    assert torch.allclose(applied(untouched()), disc(), atol=1e-6)
    assert torch.allclose(applied(draw_appearance(0, 5, np.random.default_rng(0)), 5), disc(5), atol=1e-6)


def test_a_curve_maps_grey_levels_between_its_knots() -> None:
    curve = np.array([[0, 0, 0, 0.5, 1, 1]], np.float32)  # 0.6 is the fourth knot
    found = applied(untouched(curves=curve))
    assert torch.allclose(found[disc() > 0], torch.tensor(0.5), atol=1e-5)
    assert (found[disc() == 0] == 0).all()


def test_fewer_details_soften_edges_and_sharpening_overshoots_them() -> None:
    edges = disc().diff(dim=-1).abs().max()
    assert applied(untouched(details=np.array([0.4]))).diff(dim=-1).abs().max() < 0.7 * edges
    assert applied(untouched(sharpness=np.array([1.0]))).max() > 0.65


def test_noise_is_that_of_a_magnitude_image() -> None:
    found = applied(untouched(64, noises=np.full(64, 0.05)), 64)
    air, tissue = found[disc(64) == 0], found[disc(64) > 0]
    assert air.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh's
    assert tissue.std() == pytest.approx(0.05, rel=0.05)
    assert not torch.equal(found[0], found[1])


def test_jpeg_leaves_its_marks_the_more_the_lower_its_quality() -> None:
    def error(quality: int) -> float:
        return float((applied(untouched(qualities=np.array([quality]))) - disc()).abs().mean())

    assert 0 < error(90) < error(20) < 0.05


def test_a_crop_is_changed_in_the_same_way_whenever_it_is_seen_and_in_another_for_each_view() -> None:
    crops = (disc(3).squeeze(1).numpy() * 255).astype(np.uint8)
    crops[1, 32, 32] += 1
    first = changed_crops(crops, 1, view=0)
    assert first.dtype == np.uint8
    assert np.array_equal(first, changed_crops(crops[::-1], 1, view=0)[::-1])
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, changed_crops(crops, 1, view=1))


def test_a_recipe_without_it_draws_what_it_drew_before_and_one_with_it_shows_changed_features_half_the_time() -> None:
    recipe = RECIPES["all"]
    plain = draw(recipe, COUNT, np.random.default_rng(0))
    changed = draw(recipe.changed(appearance=0.5), COUNT, np.random.default_rng(0))
    assert plain.appearance is None
    assert np.array_equal(plain.views, plain.flips)
    for name in ("flips", "maps", "contrasts", "brightnesses", "erased"):
        assert np.array_equal(getattr(plain, name), getattr(changed, name)), name
    assert (changed.views % len(FLIPS) == changed.flips).all()
    assert abs((changed.views >= len(FLIPS)).mean() - 0.5) < 0.1
