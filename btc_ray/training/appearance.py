"""Random changes of what a source leaves in its images: grey levels, sharpness, noise, and the marks of JPEG.

Where a class comes from a source of its own, a network can learn the source instead of the class. These changes, stacked at random,
take its signs away; after BigAug (Zhang et al., IEEE Transactions on Medical Imaging 2020), with JPEG for archives of web pictures.
"""

from dataclasses import dataclass
from zlib import crc32

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 6  # of a curve of grey levels, from black to white
BEND = 0.7  # share of the random curve in it; the rest is the straight line
LEAST_DETAIL = 0.35  # share of the side that a picture is reduced to
SHARPEST = 1.5  # of an unsharp mask, added to the picture
MOST_NOISE = 0.06  # standard deviation, as a share of white
QUALITIES = (20, 90)  # of JPEG, from and below


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """What happens to each of N images, in this order.

    `curves` float32 (N, KNOTS): grey levels that black to white become, from 0 to 1, rising, black staying black. `details`,
    `sharpness` float32 (N,): the share of its side that a picture is reduced to before it is enlarged again, and how much of what a
    blur takes away is added; 1 and 0 where nothing happens. `noises` float32 (N,): standard deviation of the noise of a magnitude
    image (Gudbjartsson and Patz 1995). `qualities` int64 (N,): of JPEG, 0 where it is not compressed. `seeds` int64 (N,): of the noise.
    """

    curves: np.ndarray
    details: np.ndarray
    sharpness: np.ndarray
    noises: np.ndarray
    qualities: np.ndarray
    seeds: np.ndarray


def draw_appearance(probability: float, count: int, random: np.random.Generator) -> Appearance:
    """Each of the changes happens to each of `count` images with this probability, whatever else happens to it."""

    def happens() -> np.ndarray:
        return random.uniform(size=count) < probability

    straight = np.linspace(0, 1, KNOTS)
    bent = np.sort(random.uniform(0, 1, (count, KNOTS)), axis=1)
    bent[:, 0] = 0
    curves = np.where(happens()[:, None], BEND * bent + (1 - BEND) * straight, straight)
    softer, chosen = random.uniform(size=count) < 0.5, happens()
    details = np.where(chosen & softer, random.uniform(LEAST_DETAIL, 1, count), 1)
    sharpness = np.where(chosen & ~softer, random.uniform(0, SHARPEST, count), 0)
    noises = np.where(happens(), random.uniform(0, MOST_NOISE, count), 0)
    qualities = np.where(happens(), random.integers(*QUALITIES, count), 0)
    return Appearance(
        curves=curves.astype(np.float32),
        details=details.astype(np.float32),
        sharpness=sharpness.astype(np.float32),
        noises=noises.astype(np.float32),
        qualities=qualities,
        seeds=random.integers(2**31, size=count),
    )


def changed_crops(pixels: np.ndarray, probability: float, *, view: int) -> np.ndarray:
    """uint8 (N, S, S) crops, changed at random, but the same crop always in the same way; each `view` in a way of its own."""
    shown = np.empty_like(pixels)
    for number, crop in enumerate(pixels):
        changes = draw_appearance(probability, 1, np.random.default_rng([crc32(crop.tobytes()), view]))
        grey = torch.from_numpy(crop.astype(np.float32) / 255)[None, None]
        shown[number] = apply_appearance(grey, changes, np.zeros(1, np.int64))[0, 0].mul(255).round_().to(torch.uint8).numpy()
    return shown


def apply_appearance(grey: Tensor, changes: Appearance, rows: np.ndarray) -> Tensor:
    """Change images, float32 (B, 1, S, S) from 0 to 1, as the `rows` of the changes say; the same on the same device."""
    grey = _curved(grey, torch.from_numpy(changes.curves[rows]).to(grey.device))
    for number, row in enumerate(rows):
        if changes.details[row] < 1:
            grey[number] = _reduced(grey[number], float(changes.details[row]))
        if changes.sharpness[row]:
            grey[number] = _sharpened(grey[number], float(changes.sharpness[row]))
        if changes.noises[row]:
            grey[number] = _noisy(grey[number], float(changes.noises[row]), int(changes.seeds[row]))
        if changes.qualities[row]:
            grey[number] = _compressed(grey[number], int(changes.qualities[row]))
    return grey


def _curved(grey: Tensor, curves: Tensor) -> Tensor:
    """Grey levels along a curve between its knots."""
    place = grey * (KNOTS - 1)
    low = place.floor().clamp_(0, KNOTS - 2)
    knots = low.long().flatten(1)
    below, above = curves.gather(1, knots).view_as(grey), curves.gather(1, knots + 1).view_as(grey)
    return below + (place - low) * (above - below)


def _reduced(image: Tensor, share: float) -> Tensor:
    side = image.shape[-1]
    small = F.interpolate(image[None], size=(max(8, round(share * side)),) * 2, mode="area")
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)[0]


def _sharpened(image: Tensor, amount: float) -> Tensor:
    blurred = F.avg_pool2d(image[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    return (image + amount * (image - blurred)).clamp_(0, 1)


def _noisy(image: Tensor, deviation: float, seed: int) -> Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(0, deviation, (2, *image.shape)).astype(np.float32))
    real, imaginary = drawn.to(image.device)
    return torch.hypot(image + real, imaginary).clamp_(0, 1)


def _compressed(image: Tensor, quality: int) -> Tensor:
    levels = image[0].mul(255).round_().to("cpu", torch.uint8).numpy()
    _, encoded = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return torch.from_numpy(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)).to(image.device).float().div_(255)[None]
