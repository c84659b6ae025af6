"""The tumours of phantoms: `LESIONS` maps a label to the function that grows one.

Each paints into the tissue of the head it is given, and returns the bool (GRID, GRID) mask of tumour and core, without oedema.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.anatomy import Head
from btc_ray.phantoms.canvas import GRID, Tissue, blob, depth_inside, smooth_noise


def _glioma(head: Head, rng: Generator) -> np.ndarray:
    """An irregular mass inside the brain that spreads oedema along the white matter; often a bright ring around a dead core."""
    depth = depth_inside(head.brain)
    radius = rng.uniform(0.2, 0.3)
    x, y = _pick(rng, depth > min(radius * 0.8, 0.8 * float(depth.max())))
    mass = _mass(rng, (x, y), radius, 0.22)
    brain = head.brain > 0
    spread = _mass(rng, (x, y), radius * rng.uniform(1.5, 1.9), 0.25) & brain
    head.tissue[spread & (head.tissue != Tissue.CSF) & (smooth_noise(rng, 16) > -0.6)] = Tissue.OEDEMA
    mass &= brain
    inner = depth_inside(mass.astype(np.uint8)) + 0.03 * smooth_noise(rng, 20)
    head.tissue[mass] = Tissue.GLIOMA
    if rng.random() < 0.65:
        head.tissue[mass & (inner > rng.uniform(0.05, 0.08))] = Tissue.NECROSIS
    else:
        head.tissue[mass & (smooth_noise(rng, 30) > 0.7)] = Tissue.NECROSIS
    return mass


def _meningioma(head: Head, rng: Generator) -> np.ndarray:
    """A homogeneous, well-bounded, bright mass that hangs from the dura and pushes the brain away; sometimes with a dural tail."""
    radius = rng.uniform(0.22, 0.32)
    depth = depth_inside(head.brain)
    rows = np.linspace(-1, 1, GRID)[:, None]
    x, y = _pick(rng, (depth > radius * 0.55) & (depth < radius * 0.7) & (rows < head.vault))
    mass = _mass(rng, (x, y), radius, 0.05)
    grown = cv2.dilate(head.brain, np.ones((5, 5), np.uint8)) > 0
    cleft = cv2.dilate((mass & grown).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    head.tissue[cleft & (head.brain > 0)] = Tissue.CSF
    if rng.random() < 0.5:
        tail = _mass(rng, (x, y), radius * 1.6, 0.0) & grown & (depth < 0.02)
        head.tissue[tail] = Tissue.MENINGIOMA
    mass &= grown
    head.tissue[mass] = Tissue.MENINGIOMA
    return mass


def _pituitary(head: Head, rng: Generator) -> np.ndarray:
    """A small, round, bright mass in the sella; sometimes a snowman that grows upwards through its opening."""
    radius = rng.uniform(0.1, 0.145)
    x, y = head.sella[0] + rng.normal(0, 0.012), head.sella[1] + rng.normal(0, 0.012)
    mass = _mass(rng, (x, y), radius, 0.04)
    if rng.random() < 0.35:
        mass |= _mass(rng, (x, y - radius * 1.2), radius * 0.8, 0.04)
    head.tissue[mass] = Tissue.ADENOMA
    return mass


LESIONS: dict[str, Callable[[Head, Generator], np.ndarray]] = {
    "glioma": _glioma,
    "meningioma": _meningioma,
    "pituitary": _pituitary,
}


def _mass(rng: Generator, centre: tuple[float, float], radius: float, ragged: float) -> np.ndarray:
    """A bool (GRID, GRID) disc whose radius wavers by about `ragged` of itself."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves = sum(rng.normal() / k * np.cos(k * angles + rng.uniform(0, 6.3)) for k in range(2, 8))
    radii = radius * np.clip(1 + ragged * waves, 0.5, 1.5)
    shape = np.zeros((GRID, GRID), np.uint8)
    blob(shape, 1, [(centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)])
    return shape > 0


def _pick(rng: Generator, allowed: np.ndarray) -> tuple[float, float]:
    """A random allowed pixel in canvas coordinates."""
    ys, xs = np.nonzero(allowed)
    index = rng.integers(len(xs))
    return 2 * xs[index] / GRID - 1, 2 * ys[index] / GRID - 1
