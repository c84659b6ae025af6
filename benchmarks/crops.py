"""How much of the head the robust crop and the data set author's crop keep, on real images.

Run as `python -m benchmarks.crops --data DIR`. The two measures of "how much" are built otherwise than the crops, and every
image of the folder is counted.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from btc_ray.images.crop import CROPPED, Box, Crop, kaggle_crop, robust_crop
from btc_ray.images.decode import ImageError, decode

METHODS: dict[str, Callable[[np.ndarray], Crop]] = {"robust": robust_crop, "kaggle": kaggle_crop}
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def head_hull(grey: np.ndarray) -> np.ndarray | None:
    """The head as a mask by a method of its own: uint8 (H, W) of 0 and 1, or None where it finds none.

    Smooth by 1.2 % of the side; threshold by the triangle method, held between 0.35 × Otsu's threshold and Otsu's (the triangle
    fails where the histogram's peak is tissue); open by 7 % of the side, which removes letters, frames and ghosts; convex
    hull of all parts of 3 % of the image or more. Looked at on contact sheets:
    where it errs, it takes noisy air or a page around the image for head, and so counts against the crop.
    """
    side = max(grey.shape)
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.012 * side)
    triangle = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)[0]
    otsu = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]
    mask = (smooth > np.clip(triangle, 0.35 * otsu, otsu)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, [max(3, round(0.067 * side))] * 2)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel))
    large = (stats[:, cv2.CC_STAT_AREA] >= 0.03 * grey.size).astype(np.uint8)
    large[0] = 0
    points = cv2.findNonZero(large[labels])
    if points is None:
        return None
    return np.asarray(cv2.fillConvexPoly(np.zeros_like(grey), cv2.convexHull(points), 1))


def signal_mass(grey: np.ndarray) -> np.ndarray:
    """Intensity above the background, float32 (H, W): no shape at all.

    Background is the most frequent level below 40; 10 more are taken off for its noise.
    """
    background = int(np.bincount(grey.ravel(), minlength=256)[:40].argmax())
    return np.maximum(grey.astype(np.float32) - background - 10, 0)


def kept(weights: np.ndarray, box: Box) -> float:
    """The share of `weights` (H, W) that lies inside the box; 1.0 where there are none to lose."""
    total = float(weights.sum())
    return float(weights[box.y : box.y + box.h, box.x : box.x + box.w].sum()) / total if total else 1.0


def read_greys(paths: list[Path]) -> list[np.ndarray]:
    """Decode the images; those that cannot be read are said on standard output."""
    greys = []
    for path in paths:
        try:
            greys.append(decode(path.read_bytes()))
        except ImageError as error:
            print(f"left out: {path}: {error}")
    return greys


def coverage_table(greys: list[np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """For each method: "hull" and "mass", the share of the head kept in each image (NaN where the measure finds no head),
    "area", the box's share of the image, "full_frame", and "seconds" for all of them on one thread."""
    hulls = [head_hull(grey) for grey in greys]
    table = {}
    for name, method in METHODS.items():
        start = time.perf_counter()
        crops = [method(grey) for grey in greys]
        seconds = time.perf_counter() - start
        table[name] = {
            "hull": np.array([np.nan if hull is None else kept(hull, crop.box) for hull, crop in zip(hulls, crops, strict=True)]),
            "mass": np.array([kept(signal_mass(grey), crop.box) for grey, crop in zip(greys, crops, strict=True)]),
            "area": np.array([crop.box.w * crop.box.h / grey.size for grey, crop in zip(greys, crops, strict=True)]),
            "full_frame": np.array([crop.status != CROPPED for crop in crops]),
            "seconds": np.array(seconds),
        }
    return table


def describe(table: dict[str, dict[str, np.ndarray]]) -> str:
    """The table for a reader, one line per method."""
    lines = []
    for name, row in table.items():
        count = len(row["hull"])
        parts = [f"{name:>6}: {count:,} images"]
        for measure in ("hull", "mass"):
            share = row[measure]
            less = ", ".join(f"< {limit:.0%}: {(share < limit).mean():.2%}" for limit in (0.6, 0.9))
            parts.append(f"{measure} kept {less}, least {np.nanmin(share):.1%}")
        parts.append(f"whole frame {row['full_frame'].mean():.1%}, median box {np.median(row['area']):.0%} of the image")
        parts.append(f"{count / float(row['seconds']):,.0f} images/s on one core")
        lines.append("; ".join(parts))
    unknown = int(np.isnan(next(iter(table.values()))["hull"]).sum())
    return "\n".join([*lines, f"the hull measure finds no head in {unknown:,} images; they count in the mass measure only"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with images, searched to the bottom")
    cv2.setNumThreads(1)  # images/s are per core
    folder: Path = parser.parse_args().data
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        parser.error(f"--data {folder}: no images there ({', '.join(sorted(SUFFIXES))})")
    greys = read_greys(paths)
    print(f"sizes: {Counter(grey.shape for grey in greys).most_common(3)}")
    print(describe(coverage_table(greys)))


if __name__ == "__main__":
    main()
