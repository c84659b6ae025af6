"""Random changes of the training images: drawn for a whole epoch beforehand, so that they do not depend on who trains on what.

Flips are the report's; turns, changes of size, shifts, intensities, erased rectangles (Zhong et al., 2020) and the changes of
`appearance` are ours.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from btc_ray.settings.recipe import Recipe
from btc_ray.training.appearance import Appearance, apply_appearance, draw_appearance

FLIPS = ((), (-1,), (-2,), (-1, -2))  # axes of (…, H, W): none, left-right, up-down, both
ERASED_SIDE = (0.1, 0.35)  # of the picture's side


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What happens to each image of an epoch, N of them.

    `flips` int64 (N,): positions in FLIPS. `maps` float32 (N, 2, 3): from output to input coordinates, as `affine_grid` takes
    them; the identity where nothing moves. `contrasts`, `brightnesses` float32 (N,): factor, and offset as a share of white.
    `erased` float32 (N, 4): left, top, right, bottom as shares of the side; all 0 where nothing is erased. `views` int64 (N,): which
    of an image's cached features are shown, where it has more than one a flip. `appearance`: None where the recipe has none.
    """

    flips: np.ndarray
    maps: np.ndarray
    contrasts: np.ndarray
    brightnesses: np.ndarray
    erased: np.ndarray
    views: np.ndarray
    appearance: Appearance | None


def draw(recipe: Recipe, count: int, random: np.random.Generator) -> Changes:
    """The changes of `count` images."""
    flips = random.integers(len(FLIPS) if recipe.flips else 1, size=count)
    angles = np.deg2rad(random.uniform(-recipe.rotate, recipe.rotate, count))
    scales = 1 + random.uniform(-recipe.scale, recipe.scale, count)
    shifts = 2 * random.uniform(-recipe.shift, recipe.shift, (count, 2))  # coordinates run from -1 to 1
    cos, sin = np.cos(angles) / scales, np.sin(angles) / scales
    maps = np.stack([np.stack([cos, -sin, shifts[:, 0]], 1), np.stack([sin, cos, shifts[:, 1]], 1)], 1)
    sides = random.uniform(*ERASED_SIDE, (count, 2))
    corners = random.uniform(0, 1, (count, 2)) * (1 - sides)
    erased = np.concatenate([corners, corners + sides], 1) * (random.uniform(size=(count, 1)) < recipe.erase)
    contrasts, brightnesses = (random.uniform(-recipe.intensity, recipe.intensity, count) for _ in range(2))
    # After all others, so that a recipe without it draws what it drew before there was such a thing.
    appearance = draw_appearance(recipe.appearance, count, random) if recipe.appearance else None
    changed = random.integers(2, size=count) if recipe.appearance else np.zeros(count, np.int64)
    return Changes(
        flips=flips,
        maps=maps.astype(np.float32),
        contrasts=(1 + contrasts).astype(np.float32),
        brightnesses=(brightnesses / 2).astype(np.float32),
        erased=erased.astype(np.float32),
        views=flips + len(FLIPS) * changed,
        appearance=appearance,
    )


def apply(pixels: Tensor, changes: Changes, rows: np.ndarray, *, recipe: Recipe, side: int) -> Tensor:
    """Change the images `rows` of the epoch: uint8 (B, H, W) in, float32 (B, 1, side, side) from 0 to 1 out, on the same device."""
    device = pixels.device
    grey = shrunk(pixels, side)
    if changes.appearance is not None:
        grey = apply_appearance(grey, changes.appearance, rows)
    flips = changes.flips[rows]
    for number, axes in enumerate(FLIPS):
        if axes and len(chosen := np.flatnonzero(flips == number)):
            grey[chosen] = torch.flip(grey[chosen], axes)
    if recipe.rotate or recipe.scale or recipe.shift:
        grid = F.affine_grid(torch.from_numpy(changes.maps[rows]).to(device), list(grey.shape), align_corners=False)
        grey = F.grid_sample(grey, grid, padding_mode="zeros", align_corners=False)
    if recipe.intensity:
        contrast = torch.from_numpy(changes.contrasts[rows]).to(device).view(-1, 1, 1, 1)
        brightness = torch.from_numpy(changes.brightnesses[rows]).to(device).view(-1, 1, 1, 1)
        # Black stays black: the air around the head is black on every scanner, and brightness there would be a new kind of image.
        grey = (grey * (contrast + brightness * (1 - grey))).clamp_(0, 1)
    if recipe.erase:
        for number, box in enumerate(np.rint(changes.erased[rows] * side).astype(int)):
            left, top, right, bottom = box
            if right > left:
                grey[number, :, top:bottom, left:right] = grey[number].mean()
    return grey


def shrunk(pixels: Tensor, side: int) -> Tensor:
    """uint8 (B, H, W) in, float32 (B, 1, side, side) from 0 to 1 out, by area where it shrinks."""
    grey = pixels.unsqueeze(1).float().div_(255)
    if grey.shape[-1] == side:
        return grey
    if grey.shape[-1] > side:
        return F.interpolate(grey, size=(side, side), mode="area")
    return F.interpolate(grey, size=(side, side), mode="bilinear", align_corners=False)
