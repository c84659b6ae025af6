"""Synthetic MRI slices of heads, with and without tumours, for demos and tests that need no patient data.

A slice is painted as a map of tissues, coloured by a table of intensities per MRI sequence, and then "acquired": posed, blurred,
shaded, noisy. The label decides the lesion and, for `pituitary`, that an axial slice passes through the sella; nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from btc_ray.phantoms.acquisition import acquire
from btc_ray.phantoms.anatomy import bend
from btc_ray.phantoms.heads import HEADS
from btc_ray.phantoms.lesions import LESIONS

LABELS = ("glioma", "meningioma", "notumor", "pituitary")
VIEWS = ("axial", "coronal", "sagittal")
MIN_SIDE, MAX_SIDE = 96, 2048  # pixels; below, a lesion is a dot; above, the canvas is a blur


@dataclass(frozen=True, kw_only=True, eq=False)  # eq=False: arrays do not compare to one bool
class Phantom:
    """One synthetic slice and the truth about it."""

    pixels: np.ndarray  # uint8 (H, W)
    label: str
    view: str
    head_box: tuple[int, int, int, int]  # x, y, width, height in pixels: the tight box around the head, scalp included
    lesion_mask: np.ndarray | None  # bool (H, W): the tumour and its core, without oedema; None where there is none
    seed: int


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
    head = bend(HEADS[view](anatomy, label == "pituitary"), anatomy)
    lesion = LESIONS[label](head, growth) if label in LESIONS else None
    pixels, head_mask, lesion_mask = acquire(head, lesion, scanner, size, neck=view != "axial")
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


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return int(x), int(y), int(width), int(height)
