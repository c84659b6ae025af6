"""Both crops against phantoms, whose head box is known: the robust one finds it, the published one often does not."""

import numpy as np
import pytest

from btc_ray.images.crop import Box, kaggle_crop, robust_crop
from btc_ray.phantoms.phantom import LABELS, make_phantom

PHANTOMS = 400


def overlap(found: Box, head: tuple[int, int, int, int]) -> tuple[float, float]:
    """Intersection over union, and the share of the head's box inside the found one."""
    x, y, w, h = head
    across = max(0, min(found.x + found.w, x + w) - max(found.x, x))
    down = max(0, min(found.y + found.h, y + h) - max(found.y, y))
    both = across * down
    return both / (found.w * found.h + w * h - both), both / (w * h)


@pytest.mark.slow
def test_the_robust_crop_finds_the_head_box_of_phantoms() -> None:
    phantoms = [make_phantom(LABELS[seed % len(LABELS)], seed=seed) for seed in range(5000, 5000 + PHANTOMS)]
    measured = {
        name: np.array([overlap(crop(phantom.pixels).box, phantom.head_box) for phantom in phantoms])
        for name, crop in (("robust", robust_crop), ("kaggle", kaggle_crop))
    }
    for name, figures in measured.items():
        union, kept = figures.T
        print(f"{name}: IoU ≥ 0.9 in {(union >= 0.9).mean():.1%} of {PHANTOMS} phantoms, least of the head kept {kept.min():.1%}")
    union, kept = measured["robust"].T
    assert (union >= 0.9).mean() >= 0.99
    assert kept.min() > 0.95
    assert (measured["kaggle"][:, 0] >= 0.9).mean() < 0.9, "phantoms that the published crop handles prove nothing"
