"""Synthetic MRI slices of heads, with and without tumours, for demos and tests that need no patient data.

A slice is painted as a map of tissues, coloured by a table of intensities per MRI sequence, and then "acquired": posed, blurred,
shaded, noisy. The label decides the lesion and, for `pituitary`, that an axial slice passes through the sella; nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

LABELS = ("glioma", "meningioma", "notumor", "pituitary")
VIEWS = ("axial", "coronal", "sagittal")
GRID = 288  # the canvas in pixels; its coordinates run from -1 to 1, x to the right and y downwards
MIN_SIDE, MAX_SIDE = 96, 2048  # pixels; below, a lesion is a dot; above, the canvas is a blur

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, eq=False)  # eq=False: arrays do not compare to one bool
class Phantom:
    """One synthetic slice and the truth about it."""

    pixels: np.ndarray  # uint8 (H, W)
    label: str
    view: str
    head_box: tuple[int, int, int, int]  # x, y, width, height in pixels: the tight box around the head, scalp included
    lesion_mask: np.ndarray | None  # bool (H, W): the tumour and its core, without oedema; None where there is none
    seed: int


class Tissue(IntEnum):
    """What a pixel of the canvas is made of; the order is the column order of `SEQUENCES`."""

    AIR = 0
    FAT = 1
    BONE = 2
    MARROW = 3
    MUSCLE = 4
    MUCOSA = 5
    CSF = 6
    GREY = 7
    WHITE = 8
    VESSEL = 9
    OEDEMA = 10
    NECROSIS = 11
    GLIOMA = 12
    MENINGIOMA = 13
    ADENOMA = 14


# Intensities 0–255 before gain and bias. T1 after contrast medium is what tumour patients mostly get, hence the shares.
#                 air  fat bone marrow muscle mucosa csf grey white vessel oedema necrosis glioma meningioma adenoma
SEQUENCES: dict[str, tuple[float, tuple[int, ...]]] = {
    "T1 contrast": (0.88, (0, 178, 14, 105, 66, 112, 24, 78, 104, 190, 56, 30, 205, 232, 245)),
    "T2": (0.07, (0, 150, 12, 90, 50, 190, 235, 138, 100, 20, 200, 240, 178, 205, 215)),
    "FLAIR": (0.05, (0, 140, 12, 80, 60, 150, 22, 118, 100, 40, 185, 70, 205, 215, 225)),
}


def make_phantom(label: str, *, seed: int, view: str | None = None, size: tuple[int, int] | None = None) -> Phantom:
    """A synthetic slice of a head with the lesion that `label` names.

    `seed` alone decides the head: two labels under one seed show the same head, pose and noise with another lesion. `view` is one of
    `VIEWS` and `size` is (height, width) in pixels; both are drawn from the seed where None, sides between 180 and 640.
    Raises ValueError for an unknown label or view, a negative seed, or a side outside 96–2048.
    """
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}: a phantom is one of {', '.join(LABELS)}")
    if view is not None and view not in VIEWS:
        raise ValueError(f"unknown view {view!r}: a phantom is seen in one of {', '.join(VIEWS)}")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: a phantom's seed is 0 or more")
    if size is not None and not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"size {size} (height, width): each side must be between {MIN_SIDE} and {MAX_SIDE} pixels")

    # One stream per question, so that an answer given by the caller does not shift the others.
    frame, anatomy, growth, scanner = (np.random.default_rng([seed, stream]) for stream in range(4))
    drawn_view, drawn_size = str(frame.choice(VIEWS, p=(0.45, 0.275, 0.275))), _random_size(frame)
    view, size = view or drawn_view, size or drawn_size
    head = _bend(_HEADS[view](anatomy, label == "pituitary"), anatomy)
    lesion = _LESIONS[label](head, growth) if label in _LESIONS else None
    pixels, head_mask, lesion_mask = _acquire(head, lesion, scanner, size, neck=view != "axial")
    return Phantom(
        pixels=pixels, label=label, view=view, head_box=_box(head_mask), lesion_mask=lesion_mask, seed=seed
    )  # fmt: skip


def write_phantoms(
    folder: str | Path,
    *,
    per_class: int | Mapping[str, int],
    seed: int,
    splits: Sequence[str] = ("Training", "Testing"),
    size: tuple[int, int] | None = None,
) -> list[Path]:
    """Write `per_class` phantoms of every class into `folder/<split>/<class>/` and return their paths, in that order.

    The Kaggle layout: JPEG of quality 60–95, grey or three equal channels, and a PNG now and then. No two images of one call share a
    seed, nor do images of calls with different `seed`: for splits of different sizes, call once per split with another seed each.
    Raises ValueError for an unknown class or a count outside 0–100,000, OSError where `folder` cannot be written.
    """
    counts = dict.fromkeys(LABELS, per_class) if isinstance(per_class, int) else dict(per_class)
    for label, count in counts.items():
        if label not in LABELS:
            raise ValueError(f"per_class names an unknown class {label!r}: a phantom is one of {', '.join(LABELS)}")
        if not 0 <= count <= 100_000:
            raise ValueError(f"per_class asks for {count} images of {label}: between 0 and 100,000 per class are possible")
    if sum(counts.values()) * len(splits) >= _SEEDS_PER_CALL:
        raise ValueError(
            f"{sum(counts.values()) * len(splits):,} images in one call: fewer than {_SEEDS_PER_CALL:,} are possible"
        )

    paths: list[Path] = []
    for split in splits:
        for label, count in counts.items():
            directory = Path(folder) / split / label
            directory.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image_seed = seed * _SEEDS_PER_CALL + len(paths)
                paths.append(
                    _write(make_phantom(label, seed=image_seed, size=size), directory, f"{split[:2]}-{label[:2]}_{index:04d}")
                )
    return paths


_SEEDS_PER_CALL = 10_000_000


def _write(phantom: Phantom, directory: Path, stem: str) -> Path:
    rng = np.random.default_rng([phantom.seed, 4])
    png, colour = rng.random() < 0.04, rng.random() < 0.5
    pixels = cv2.cvtColor(phantom.pixels, cv2.COLOR_GRAY2BGR) if colour else phantom.pixels
    options = [] if png else [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
    path = directory / f"{stem}{'.png' if png else '.jpg'}"
    encoded, data = cv2.imencode(path.suffix, pixels, options)
    assert encoded, path
    path.write_bytes(data.tobytes())
    return path


def _random_size(rng: Generator) -> tuple[int, int]:
    side = int(rng.choice((180, 224, 225, 256, 320, 400, 512, 630)))
    if rng.random() < 0.6:
        return side, side
    return side, int(np.clip(round(side * rng.uniform(0.8, 1.25)), 180, 640))


# --- anatomy -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Head:
    tissue: np.ndarray  # uint8 (GRID, GRID), values of Tissue
    mask: np.ndarray  # uint8 (GRID, GRID), 1 inside the scalp
    brain: np.ndarray  # uint8 (GRID, GRID), 1 inside the cerebrum
    sella: tuple[float, float]  # where the pituitary gland lies, in canvas coordinates
    vault: float  # brain above this y lies under the skull's vault: where a meningioma may hang


def _axial(rng: Generator, sella: bool) -> _Head:
    level = "base" if sella else str(rng.choice(("base", "ventricles", "bodies", "vertex"), p=(0.3, 0.35, 0.2, 0.15)))
    small = 0.86 if level == "vertex" else 1.0
    rx, ry, egg = rng.uniform(0.68, 0.76) * small, rng.uniform(0.85, 0.91) * small, rng.uniform(0.02, 0.08)
    scalp, skull = rng.uniform(0.045, 0.075), rng.uniform(0.05, 0.07) * (1.4 if level == "vertex" else 1)
    outline = _oval(rng, rx, ry, egg)
    rim = 1 - (scalp + skull) / rx
    brain = [(x * rim, y * (1 - (scalp + skull) / ry)) for x, y in outline]
    if level == "base":  # the orbits take the front, so the frontal lobes end behind them
        brain = [(x, max(y, -0.38 - 0.5 * max(0.0, 0.25 - abs(x)))) for x, y in brain]
    head = _shells(rng, outline, brain, scalp, skull)
    tissue = head.tissue
    _midline(tissue, (0, -ry), (0, ry) if level != "base" else (0, -0.15))
    widen = rng.uniform(0.75, 1.35)
    for side in (-1, 1):

        def there(points: Points, side: int = side, wide: float = widen) -> Points:
            return [(side * (0.02 + (x - 0.02) * wide), y) for x, y in points]

        if level == "base":
            eye = 0.33 * rx / 0.72
            _disc(tissue, Tissue.FAT, (side * eye * 0.93, -0.58), (0.17, 0.18), 12 * side)
            _disc(tissue, Tissue.MUSCLE, (side * (eye - 0.12), -0.56), (0.022, 0.13), -18 * side)
            _disc(tissue, Tissue.MUSCLE, (side * (eye + 0.08), -0.52), (0.018, 0.1), 24 * side)
            _disc(tissue, Tissue.GREY, (side * eye * 0.85, -0.5), (0.016, 0.1), 14 * side)
            _disc(tissue, Tissue.CSF, (side * eye, -0.68), (0.115, 0.11))
            _blob(tissue, Tissue.BONE, [(side * x, y) for x, y in ((0.16, 0.1), (0.5, 0.16), (0.6, 0.28), (0.2, 0.2))])
            _blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.2, -0.12), (0.52, -0.2), (0.53, -0.17), (0.21, -0.07))])
        elif level == "ventricles":
            _disc(tissue, Tissue.GREY, (side * 0.21, -0.12), (0.07, 0.2), -18 * side)
            _disc(tissue, Tissue.GREY, (side * 0.12, 0.06), (0.09, 0.13), 25 * side)
            _blob(
                tissue,
                Tissue.CSF,
                there(((0.03, -0.2), (0.08, -0.36), (0.16, -0.38), (0.13, -0.26), (0.06, -0.1), (0.03, -0.06))),
            )
            _blob(tissue, Tissue.CSF, there(((0.11, 0.17), (0.19, 0.22), (0.25, 0.4), (0.21, 0.44), (0.14, 0.3))))
            _blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.34, -0.14), (0.58, -0.2), (0.56, -0.16), (0.34, -0.08))])
        elif level == "bodies":
            _blob(tissue, Tissue.CSF, there(((0.03, -0.3), (0.1, -0.36), (0.12, -0.1), (0.17, 0.2), (0.14, 0.3), (0.06, 0.05))))
    if level == "base":
        _disc(tissue, Tissue.AIR, (0, -0.68), (0.085, 0.14))
        for x in (-0.05, 0.0, 0.05):
            _disc(tissue, Tissue.MUCOSA, (x, -0.68), (0.01, 0.13))
        _cerebellum(tissue, rng, (0, 0.5), (0.46, 0.27))
        _disc(tissue, Tissue.CSF, (0, -0.08), (0.17, 0.13))
        _disc(tissue, Tissue.WHITE, (0, 0.14), (0.16, 0.12))
        _disc(tissue, Tissue.CSF, (0, 0.27), (0.05, 0.03))
        for x in (-0.1, 0.1):
            _disc(tissue, Tissue.VESSEL, (x, -0.12), (0.022, 0.022))
    elif level == "ventricles":
        _disc(tissue, Tissue.CSF, (0, 0.03), (0.015, 0.1))
    return _Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0, -0.12), vault=1.0 if level != "base" else 0.1)


def _coronal(rng: Generator, sella: bool) -> _Head:
    wide, tall = rng.uniform(0.92, 1.08), rng.uniform(0.94, 1.02)

    def both(points: Points) -> Points:
        right = [(x * wide, y * tall) for x, y in points]
        return right + [(-x, y) for x, y in reversed(right)]

    outline = both(
        [(0, -0.92), (0.3, -0.88), (0.57, -0.69), (0.71, -0.38), (0.73, 0), (0.69, 0.3), (0.6, 0.55), (0.5, 0.8), (0.47, 1.3)]
    )
    brain = both(
        [
            (0, -0.8),
            (0.27, -0.76),
            (0.49, -0.58),
            (0.6, -0.32),
            (0.61, -0.05),
            (0.55, 0.13),
            (0.4, 0.19),
            (0.27, 0.14),
            (0.16, 0.02),
            (0, 0),
        ]
    )
    head = _shells(rng, outline, brain, rng.uniform(0.045, 0.07), rng.uniform(0.045, 0.06))
    tissue, posterior = head.tissue, not sella and rng.random() < 0.35
    _midline(tissue, (0, -0.9), (0, -0.35 if not posterior else 0.0))
    for side in (-1, 1):
        _blob(
            tissue,
            Tissue.BONE,
            [(side * x, y) for x, y in ((0.1, 0.06), (0.3, 0.2), (0.55, 0.22), (0.6, 0.3), (0.3, 0.3), (0.1, 0.2))],
        )
        _stroke(tissue, Tissue.BONE, [(side * x, y) for x, y in ((0.5, 0.3), (0.47, 0.55), (0.4, 0.8))], 0.06)  # jaw
        _disc(tissue, Tissue.MARROW, (side * 0.46, 0.62), (0.02, 0.12), -8 * side)
        if posterior:
            _blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.16, -0.3), (0.24, -0.26), (0.26, -0.1), (0.2, -0.12))])
            continue
        _blob(
            tissue,
            Tissue.CSF,
            [(side * x, y) for x, y in ((0.02, -0.33), (0.19, -0.42), (0.2, -0.37), (0.08, -0.26), (0.03, -0.24))],
        )
        _blob(tissue, Tissue.CSF, [(side * x, y) for x, y in ((0.36, -0.13), (0.62, -0.09), (0.6, -0.05), (0.36, -0.09))])
        _disc(tissue, Tissue.GREY, (side * 0.24, -0.16), (0.06, 0.12), 15 * side)
        _disc(tissue, Tissue.GREY, (side * 0.1, -0.14), (0.07, 0.08))
        _disc(tissue, Tissue.CSF, (side * 0.33, 0.04), (0.05, 0.015), 20 * side)
        _disc(tissue, Tissue.AIR, (side * 0.33, 0.5), (0.14, 0.13))  # maxillary sinus
        _disc(tissue, Tissue.VESSEL, (side * 0.13, 0.1), (0.03, 0.03))
    if posterior:
        for x in (-0.24, 0.24):
            _cerebellum(tissue, rng, (x, 0.22), (0.29, 0.2))
        _disc(tissue, Tissue.WHITE, (0, 0.3), (0.08, 0.2))
        _disc(tissue, Tissue.CSF, (0, 0.22), (0.03, 0.04))
    else:
        _disc(tissue, Tissue.CSF, (0, -0.13), (0.014, 0.09))
        _disc(tissue, Tissue.CSF, (0, 0.0), (0.12, 0.04))
        _disc(tissue, Tissue.GREY, (0, 0.1), (0.08, 0.03))  # the gland itself
        _disc(tissue, Tissue.AIR, (0, 0.26), (0.12, 0.08))  # sphenoid sinus
        _disc(tissue, Tissue.AIR, (0, 0.5), (0.1, 0.14))
        for x in (-0.07, 0.0, 0.07):
            _disc(tissue, Tissue.MUCOSA, (x, 0.51), (0.018, 0.11))
        _disc(tissue, Tissue.MUSCLE, (0, 0.82), (0.26, 0.12))  # tongue
    return _Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0, 0.06), vault=0.0)


def _sagittal(rng: Generator, sella: bool) -> _Head:
    outline = [
        (-0.08, -0.92), (0.24, -0.89), (0.53, -0.72), (0.69, -0.45), (0.73, -0.2), (0.7, -0.05), (0.79, 0.12), (0.83, 0.2), (0.74, 0.25),
        (0.78, 0.36), (0.73, 0.44), (0.76, 0.54), (0.68, 0.66), (0.45, 0.68), (0.27, 0.78), (0.25, 1.3), (-0.5, 1.3), (-0.5, 0.62),
        (-0.62, 0.42), (-0.8, 0.12), (-0.87, -0.22), (-0.8, -0.55), (-0.5, -0.82),
    ]  # fmt: skip
    brain = [
        (-0.08, -0.79), (0.22, -0.76), (0.46, -0.6), (0.6, -0.36), (0.6, -0.16), (0.42, -0.06), (0.2, -0.02), (-0.05, -0.02),
        (-0.3, 0.03), (-0.6, 0.08), (-0.73, -0.06), (-0.75, -0.28), (-0.68, -0.52), (-0.44, -0.72),
    ]  # fmt: skip
    head = _shells(rng, outline, brain, rng.uniform(0.04, 0.065), rng.uniform(0.05, 0.065))
    tissue, midline = head.tissue, sella or rng.random() < 0.65
    _cerebellum(tissue, rng, (-0.42, 0.24), (0.26, 0.19))
    _blob(tissue, Tissue.AIR, ((0.44, 0.1), (0.7, 0.08), (0.72, 0.2), (0.46, 0.24), (0.3, 0.22)))  # nasal cavity
    for y in (0.13, 0.19):
        _disc(tissue, Tissue.MUCOSA, (0.56, y), (0.13, 0.02), 4)
    _blob(tissue, Tissue.AIR, ((0.62, -0.26), (0.68, -0.24), (0.68, -0.1), (0.63, -0.14)))  # frontal sinus
    _blob(tissue, Tissue.BONE, ((0.34, 0.27), (0.7, 0.26), (0.7, 0.31), (0.34, 0.31)))  # palate
    _blob(tissue, Tissue.AIR, ((0.24, 0.2), (0.31, 0.24), (0.26, 0.5), (0.22, 0.8), (0.16, 0.78), (0.2, 0.45)))  # pharynx
    _disc(tissue, Tissue.MARROW, (0.6, 0.58), (0.07, 0.05), 30)
    if midline:
        _stroke(tissue, Tissue.CSF, ((0.28, -0.26), (0.18, -0.34), (-0.05, -0.37), (-0.27, -0.28), (-0.32, -0.2)), 0.1)
        _stroke(
            tissue, Tissue.WHITE, ((0.28, -0.22), (0.33, -0.3), (0.2, -0.4), (-0.05, -0.44), (-0.28, -0.37), (-0.38, -0.22)), 0.06
        )
        _disc(tissue, Tissue.GREY, (-0.05, -0.2), (0.16, 0.09), -8)
        _blob(
            tissue, Tissue.WHITE,
            ((0.05, -0.14), (-0.22, -0.14), (-0.22, 0.05), (-0.2, 0.3), (-0.24, 0.55), (-0.26, 1.3), (-0.12, 1.3), (-0.1, 0.5), (0.0, 0.27),
             (0.09, 0.16), (0.06, 0.03)),
        )  # fmt: skip
        _blob(tissue, Tissue.CSF, ((-0.2, 0.06), (-0.26, 0.2), (-0.18, 0.34)))  # fourth ventricle
        _blob(tissue, Tissue.CSF, ((0.08, -0.06), (0.3, -0.05), (0.15, 0.02), (0.1, 0.14), (0.0, 0.32), (0.06, 0.14)))  # cisterns
        _blob(tissue, Tissue.MARROW, ((0.14, 0.1), (0.24, 0.16), (0.12, 0.34), (0.03, 0.36)))  # clivus
        _disc(tissue, Tissue.AIR, (0.33, 0.14), (0.1, 0.075))  # sphenoid sinus
        _disc(tissue, Tissue.GREY, (0.21, 0.04), (0.045, 0.03))
        for step in range(5):
            _disc(tissue, Tissue.MARROW, (-0.02 - 0.01 * step, 0.46 + 0.15 * step), (0.075, 0.055))
    else:
        _blob(tissue, Tissue.CSF, ((0.2, -0.36), (0.0, -0.38), (-0.3, -0.28), (-0.42, -0.2), (-0.3, -0.2), (0.05, -0.3)))
        _stroke(tissue, Tissue.CSF, ((0.36, -0.1), (0.1, -0.16), (-0.2, -0.22)), 0.03)  # Sylvian fissure
        _disc(tissue, Tissue.GREY, (0.02, -0.2), (0.13, 0.06))
        _disc(tissue, Tissue.CSF, (0.56, 0.03), (0.09, 0.085))  # eye
    if rng.random() < 0.35:  # some scanners face the other way
        tissue, mask, brain_mask = (np.ascontiguousarray(plane[:, ::-1]) for plane in (tissue, head.mask, head.brain))
        return _Head(tissue=tissue, mask=mask, brain=brain_mask, sella=(-0.21, 0.02), vault=-0.05)
    return _Head(tissue=tissue, mask=head.mask, brain=head.brain, sella=(0.21, 0.02), vault=-0.05)


_HEADS: dict[str, Callable[[Generator, bool], _Head]] = {"axial": _axial, "coronal": _coronal, "sagittal": _sagittal}


def _shells(rng: Generator, outline: Points, brain_outline: Points, scalp: float, skull: float) -> _Head:
    """Scalp, muscle, skull, cerebrospinal fluid and folded cortex, from the outlines of head and brain."""
    mask, brain = np.zeros((GRID, GRID), np.uint8), np.zeros((GRID, GRID), np.uint8)
    _blob(mask, 1, outline)
    _blob(brain, 1, brain_outline)
    brain &= mask
    from_skin, from_brain = _depth(mask), _depth(1 - brain)
    patchy = 1 + 0.35 * _smooth_noise(rng, 10)
    tissue = np.where(mask > 0, np.uint8(Tissue.MUSCLE), np.uint8(Tissue.AIR))
    tissue[(mask > 0) & (from_skin < scalp * patchy)] = Tissue.FAT
    tissue[(mask > 0) & (from_brain < skull + 0.03)] = Tissue.BONE
    tissue[(mask > 0) & (from_skin < 0.5 * scalp)] = Tissue.FAT  # the skull never reaches the skin
    tissue[(mask > 0) & (from_brain < 0.018)] = Tissue.CSF
    # Face and neck: muscles, and planes of fat between them.
    strands = _smooth_noise(rng, 13)
    tissue[(tissue == Tissue.MUSCLE) & (np.abs(strands) < 0.13)] = Tissue.FAT
    tissue[(tissue == Tissue.MUSCLE) & (strands > 1.4)] = Tissue.MARROW
    # Sulci are the zero lines of smooth noise, open at the surface and closing with depth; cortex lines both.
    depth = _depth(brain)
    fold = np.abs(_smooth_noise(rng, 26) + 0.3 * _smooth_noise(rng, 50))
    reach = np.clip(1.15 - depth / rng.uniform(0.2, 0.32), 0, 1)
    inside = brain > 0
    tissue[inside] = Tissue.WHITE
    tissue[inside & ((depth < 0.035) | (fold < 0.55 * reach))] = Tissue.GREY
    tissue[inside & (fold < rng.uniform(0.1, 0.26) * reach)] = Tissue.CSF
    return _Head(tissue=tissue, mask=mask, brain=brain, sella=(0, 0), vault=1.0)


def _bend(head: _Head, rng: Generator) -> _Head:
    """The same head, no two alike: pulled about by a few per cent along smooth random directions."""
    pull_x, pull_y = (np.clip(rng.uniform(1.0, 2.8) * _smooth_noise(rng, 4), -8, 8) for _ in range(2))  # pixels of the canvas
    ys, xs = np.mgrid[:GRID, :GRID].astype(np.float32)
    xs, ys = xs + pull_x, ys + pull_y
    tissue, mask, brain = (
        cv2.remap(plane, xs, ys, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        for plane in (head.tissue, head.mask, head.brain)
    )
    for edge in (np.s_[0], np.s_[:, 0], np.s_[:, -1]):  # only the neck may touch the canvas edge, which `_acquire` extends
        mask[edge] = brain[edge] = 0
    tissue[mask == 0] = Tissue.AIR
    row, column = (int((c + 1) * GRID / 2) for c in (head.sella[1], head.sella[0]))
    sella = (head.sella[0] - 2 * float(pull_x[row, column]) / GRID, head.sella[1] - 2 * float(pull_y[row, column]) / GRID)
    return _Head(tissue=tissue, mask=mask, brain=brain, sella=sella, vault=head.vault)


def _cerebellum(tissue: np.ndarray, rng: Generator, centre: tuple[float, float], radii: tuple[float, float]) -> None:
    """Paint leaves of grey on white: bands parallel to the surface, bent by noise."""
    shape = np.zeros_like(tissue)
    _disc(tissue, Tissue.CSF, centre, (radii[0] + 0.02, radii[1] + 0.02))
    _disc(shape, 1, centre, radii)
    depth = _depth(shape) + 0.02 * _smooth_noise(rng, 14)
    bands = np.sin(depth * 2 * np.pi / 0.055) > -0.1
    tissue[shape > 0] = Tissue.GREY
    tissue[(shape > 0) & bands & (depth > 0.03)] = Tissue.WHITE


def _midline(tissue: np.ndarray, front: tuple[float, float], back: tuple[float, float]) -> None:
    """The fissure between the hemispheres, with the sagittal sinus where it meets the skull."""
    inside = np.isin(tissue, (Tissue.GREY, Tissue.WHITE, Tissue.CSF))
    line = np.zeros_like(tissue)
    _stroke(line, 1, (front, back), 0.008)
    tissue[(line > 0) & inside] = Tissue.CSF
    rows = np.flatnonzero(inside[:, GRID // 2])
    _disc(tissue, Tissue.VESSEL, (0, 2 * rows[0] / GRID - 1.0), (0.025, 0.02))


# --- lesions -----------------------------------------------------------------------------------------------------------------------


def _glioma(head: _Head, rng: Generator) -> np.ndarray:
    """An irregular mass inside the brain that spreads oedema along the white matter; often a bright ring around a dead core."""
    depth = _depth(head.brain)
    radius = rng.uniform(0.2, 0.3)
    x, y = _pick(rng, depth > min(radius * 0.8, 0.8 * float(depth.max())))
    mass = _mass(rng, (x, y), radius, 0.22)
    brain = head.brain > 0
    spread = _mass(rng, (x, y), radius * rng.uniform(1.5, 1.9), 0.25) & brain
    head.tissue[spread & (head.tissue != Tissue.CSF) & (_smooth_noise(rng, 16) > -0.6)] = Tissue.OEDEMA
    mass &= brain
    inner = _depth(mass.astype(np.uint8)) + 0.03 * _smooth_noise(rng, 20)
    head.tissue[mass] = Tissue.GLIOMA
    if rng.random() < 0.65:
        head.tissue[mass & (inner > rng.uniform(0.05, 0.08))] = Tissue.NECROSIS
    else:
        head.tissue[mass & (_smooth_noise(rng, 30) > 0.7)] = Tissue.NECROSIS
    return mass


def _meningioma(head: _Head, rng: Generator) -> np.ndarray:
    """A homogeneous, well-bounded, bright mass that hangs from the dura and pushes the brain away; sometimes with a dural tail."""
    radius = rng.uniform(0.22, 0.32)
    depth = _depth(head.brain)
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


def _pituitary(head: _Head, rng: Generator) -> np.ndarray:
    """A small, round, bright mass in the sella; sometimes a snowman that grows upwards through its opening."""
    radius = rng.uniform(0.1, 0.145)
    x, y = head.sella[0] + rng.normal(0, 0.012), head.sella[1] + rng.normal(0, 0.012)
    mass = _mass(rng, (x, y), radius, 0.04)
    if rng.random() < 0.35:
        mass |= _mass(rng, (x, y - radius * 1.2), radius * 0.8, 0.04)
    head.tissue[mass] = Tissue.ADENOMA
    return mass


_LESIONS: dict[str, Callable[[_Head, Generator], np.ndarray]] = {
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
    _blob(shape, 1, [(centre[0] + r * np.cos(a), centre[1] + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)])
    return shape > 0


def _pick(rng: Generator, allowed: np.ndarray) -> tuple[float, float]:
    """A random allowed pixel in canvas coordinates."""
    ys, xs = np.nonzero(allowed)
    index = rng.integers(len(xs))
    return 2 * xs[index] / GRID - 1, 2 * ys[index] / GRID - 1


# --- acquisition -------------------------------------------------------------------------------------------------------------------


def _acquire(
    head: _Head, lesion: np.ndarray | None, rng: Generator, size: tuple[int, int], *, neck: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """uint8 pixels (H, W), and the bool masks of head and lesion in the same frame."""
    names = list(SEQUENCES)
    table = SEQUENCES[names[rng.choice(len(names), p=[SEQUENCES[name][0] for name in names])]][1]
    signal = np.asarray(table, np.float32)[head.tissue]
    signal *= 1 + 0.05 * _smooth_noise(rng, 60) + 0.04 * _smooth_noise(rng, 12)
    across = np.linspace(-1, 1, GRID, dtype=np.float32)
    slope_x, slope_y, bowl = rng.normal(0, 0.08), rng.normal(0, 0.08), rng.uniform(-0.1, 0.2)  # coil sensitivity
    signal *= (1 + slope_x * across + bowl * (across**2 - 0.4)) * (1 + slope_y * across + bowl * (across**2 - 0.4))[:, None]

    pose = _pose(rng, size, neck)
    height, width = size
    scale = float(np.sqrt(abs(np.linalg.det(pose[:, :2]))))
    signal = cv2.GaussianBlur(signal, (0, 0), rng.uniform(0.6, 1.0) / min(scale, 1.0))
    # Replicated borders carry the neck on to the edge of the frame; on the other sides the border is air.
    signal = cv2.warpAffine(signal, pose, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    signal *= rng.uniform(0.5, 0.75) if rng.random() < 0.2 else rng.uniform(0.88, 1.12)  # a fifth as dim as the real T1 images
    sigma = rng.uniform(1.0, 5.0)
    noise = rng.standard_normal((2, height, width), dtype=np.float32) * np.float32(
        sigma
    )  # Rician: the magnitude of a complex signal
    signal = cv2.magnitude(signal + noise[0], noise[1])
    floor = rng.uniform(4, 25) if rng.random() < 0.2 else 0.0
    pixels = np.clip(floor + signal * (1 - floor / 255), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:  # images reach such collections through several lossy copies
        encoded, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 85))])
        assert encoded
        pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if rng.random() < 0.15:
        _burn_text(pixels, rng)

    def posed(mask: np.ndarray) -> np.ndarray:
        soft = cv2.warpAffine(mask.astype(np.float32), pose, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return soft > 0.5

    return pixels, posed(head.mask), None if lesion is None else posed(lesion)


def _pose(rng: Generator, size: tuple[int, int], neck: bool) -> np.ndarray:
    """Float64 (2, 3): canvas pixels to image pixels. The neck, where there is one, leaves the frame at the bottom."""
    height, width = size
    zoom = rng.uniform(0.88, 1.04) * min(height, width) / GRID
    stretch = rng.uniform(0.95, 1.05)
    pose = cv2.getRotationMatrix2D((GRID / 2, GRID / 2), rng.normal(0, 4), 1.0)
    pose[0] *= zoom * stretch
    pose[1] *= zoom / stretch
    slack_x, slack_y = max(width - GRID * pose[0, 0], 0.06 * width), max(height - GRID * pose[1, 1], 0.06 * height)
    centre = pose[:, :2] @ (GRID / 2, GRID / 2) + pose[:, 2]
    pose[0, 2] += width / 2 - centre[0] + rng.uniform(-0.4, 0.4) * slack_x
    pose[1, 2] += height / 2 - centre[1] + (rng.uniform(0.0, 0.4) if neck else rng.uniform(-0.4, 0.4)) * slack_y
    return pose


def _burn_text(pixels: np.ndarray, rng: Generator) -> None:
    text = str(rng.choice(("R", "L", "A", "SE 4  IM 12", "T1 AX +C", "TE 14 TR 550", "512 x 512")))
    scale = pixels.shape[0] / 700
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    right, bottom, margin = rng.random() < 0.5, rng.random() < 0.5, round(0.02 * pixels.shape[0])
    x = pixels.shape[1] - width - margin if right else margin
    y = pixels.shape[0] - margin if bottom else margin + height
    cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, int(rng.integers(150, 256)), 1, cv2.LINE_AA)


# --- drawing -----------------------------------------------------------------------------------------------------------------------


def _blob(canvas: np.ndarray, value: int, points: Points) -> None:
    """Fill the closed curve around `points`, its corners cut twice (Chaikin)."""
    curve = np.asarray(points, np.float64)
    for _ in range(2):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack((0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following), axis=1).reshape(-1, 2)
    cv2.fillPoly(canvas, [_fixed_point(curve)], int(value), shift=4)


def _disc(canvas: np.ndarray, value: int, centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0) -> None:
    axes = _fixed_point(np.asarray(radii) - 1)
    cv2.ellipse(canvas, _fixed_point(np.asarray(centre)).tolist(), axes.tolist(), degrees, 0, 360, int(value), -1, shift=4)


def _stroke(canvas: np.ndarray, value: int, points: Points, thickness: float) -> None:
    pixels = max(1, round(thickness * GRID / 2))
    cv2.polylines(canvas, [_fixed_point(np.asarray(points))], isClosed=False, color=int(value), thickness=pixels, shift=4)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    """Canvas coordinates as int32 pixels with four fractional bits, as OpenCV draws them."""
    return np.round((points + 1) * (GRID / 2 * 16)).astype(np.int32)


def _oval(rng: Generator, rx: float, ry: float, egg: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waver = 1 + 0.008 * (np.cos(3 * angles + rng.uniform(0, 6.3)) + np.cos(5 * angles + rng.uniform(0, 6.3)))
    x, y = rx * np.cos(angles) * (1 + egg * np.sin(angles)) * waver, ry * np.sin(angles) * waver
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _depth(mask: np.ndarray) -> np.ndarray:
    """Float32 (GRID, GRID): how far inside `mask` a pixel lies, in canvas units."""
    return cv2.distanceTransform(np.ascontiguousarray(mask, np.uint8), cv2.DIST_L2, 3) * np.float32(2 / GRID)


def _smooth_noise(rng: Generator, cells: int) -> np.ndarray:
    """Float32 (GRID, GRID) of about unit variance, with some `cells` hills across."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32) * 1.4  # interpolation takes away about 30 %
    return cv2.resize(coarse, (GRID, GRID), interpolation=cv2.INTER_CUBIC)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return int(x), int(y), int(width), int(height)
