"""What every synthetic head is made of: its layers from scalp to cortex, fissure, cerebellum, and the bend that makes it unlike others."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.canvas import GRID, Points, Tissue, blob, depth_inside, disc, smooth_noise, stroke


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A head on the canvas; lesions are painted into its tissue."""

    tissue: np.ndarray  # uint8 (GRID, GRID), values of Tissue
    mask: np.ndarray  # uint8 (GRID, GRID), 1 inside the scalp
    brain: np.ndarray  # uint8 (GRID, GRID), 1 inside the cerebrum
    sella: tuple[float, float]  # where the pituitary gland lies, in canvas coordinates
    vault: float  # brain above this y lies under the skull's vault: where a meningioma may hang


def shells(rng: Generator, outline: Points, brain_outline: Points, scalp: float, skull: float) -> Head:
    """Scalp, muscle, skull, cerebrospinal fluid and folded cortex, from the outlines of head and brain."""
    mask, brain = np.zeros((GRID, GRID), np.uint8), np.zeros((GRID, GRID), np.uint8)
    blob(mask, 1, outline)
    blob(brain, 1, brain_outline)
    brain &= mask
    from_skin, from_brain = depth_inside(mask), depth_inside(1 - brain)
    patchy = 1 + 0.35 * smooth_noise(rng, 10)
    tissue = np.where(mask > 0, np.uint8(Tissue.MUSCLE), np.uint8(Tissue.AIR))
    tissue[(mask > 0) & (from_skin < scalp * patchy)] = Tissue.FAT
    tissue[(mask > 0) & (from_brain < skull + 0.03)] = Tissue.BONE
    tissue[(mask > 0) & (from_skin < 0.5 * scalp)] = Tissue.FAT  # the skull never reaches the skin
    tissue[(mask > 0) & (from_brain < 0.018)] = Tissue.CSF
    # Face and neck: muscles, and planes of fat between them.
    strands = smooth_noise(rng, 13)
    tissue[(tissue == Tissue.MUSCLE) & (np.abs(strands) < 0.13)] = Tissue.FAT
    tissue[(tissue == Tissue.MUSCLE) & (strands > 1.4)] = Tissue.MARROW
    # Sulci are the zero lines of smooth noise, open at the surface and closing with depth; cortex lines both.
    depth = depth_inside(brain)
    fold = np.abs(smooth_noise(rng, 26) + 0.3 * smooth_noise(rng, 50))
    reach = np.clip(1.15 - depth / rng.uniform(0.2, 0.32), 0, 1)
    inside = brain > 0
    tissue[inside] = Tissue.WHITE
    tissue[inside & ((depth < 0.035) | (fold < 0.55 * reach))] = Tissue.GREY
    tissue[inside & (fold < rng.uniform(0.1, 0.26) * reach)] = Tissue.CSF
    return Head(tissue=tissue, mask=mask, brain=brain, sella=(0, 0), vault=1.0)


def bend(head: Head, rng: Generator) -> Head:
    """The same head, no two alike: pulled about by a few per cent along smooth random directions."""
    pull_x, pull_y = (np.clip(rng.uniform(1.0, 2.8) * smooth_noise(rng, 4), -8, 8) for _ in range(2))  # pixels of the canvas
    ys, xs = np.mgrid[:GRID, :GRID].astype(np.float32)
    xs, ys = xs + pull_x, ys + pull_y
    tissue, mask, brain = (
        cv2.remap(plane, xs, ys, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        for plane in (head.tissue, head.mask, head.brain)
    )
    for edge in (np.s_[0], np.s_[:, 0], np.s_[:, -1]):  # only the neck may touch the canvas edge, which `acquire` extends
        mask[edge] = brain[edge] = 0
    tissue[mask == 0] = Tissue.AIR
    row, column = (int((c + 1) * GRID / 2) for c in (head.sella[1], head.sella[0]))
    sella = (head.sella[0] - 2 * float(pull_x[row, column]) / GRID, head.sella[1] - 2 * float(pull_y[row, column]) / GRID)
    return Head(tissue=tissue, mask=mask, brain=brain, sella=sella, vault=head.vault)


def paint_cerebellum(tissue: np.ndarray, rng: Generator, centre: tuple[float, float], radii: tuple[float, float]) -> None:
    """Paint leaves of grey on white: bands parallel to the surface, bent by noise."""
    shape = np.zeros_like(tissue)
    disc(tissue, Tissue.CSF, centre, (radii[0] + 0.02, radii[1] + 0.02))
    disc(shape, 1, centre, radii)
    depth = depth_inside(shape) + 0.02 * smooth_noise(rng, 14)
    bands = np.sin(depth * 2 * np.pi / 0.055) > -0.1
    tissue[shape > 0] = Tissue.GREY
    tissue[(shape > 0) & bands & (depth > 0.03)] = Tissue.WHITE


def paint_midline(tissue: np.ndarray, front: tuple[float, float], back: tuple[float, float]) -> None:
    """The fissure between the hemispheres, with the sagittal sinus where it meets the skull."""
    inside = np.isin(tissue, (Tissue.GREY, Tissue.WHITE, Tissue.CSF))
    line = np.zeros_like(tissue)
    stroke(line, 1, (front, back), 0.008)
    tissue[(line > 0) & inside] = Tissue.CSF
    rows = np.flatnonzero(inside[:, GRID // 2])
    disc(tissue, Tissue.VESSEL, (0, 2 * rows[0] / GRID - 1.0), (0.025, 0.02))
