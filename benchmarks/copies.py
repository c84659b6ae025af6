"""Are copies found, and only copies? Constructed copies and neighbouring slices of phantoms, real images, and growth.

    python -m benchmarks.copies [--data DIR] [--growth 10000 30000 100000]

DIR has the Kaggle layout; without it only phantoms are looked at.
"""

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from btc_ray.dataset.copies import contradicting, find_copies
from btc_ray.dataset.likeness import TRANSFORMS
from btc_ray.images.crop import robust_crop
from btc_ray.images.decode import ImageError, decode
from btc_ray.phantoms.phantom import LABELS, make_phantom
from btc_ray.reports.shared.figures import contact_sheet
from btc_ray.workers.session import available_cpus

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
Edit = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def recoded(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 40 to 90."""
    encoded, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 91))])
    assert encoded
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


def resized(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """0.5 to 2 times as large."""
    scale = float(2 ** rng.uniform(-1, 1))
    size = max(16, round(grey.shape[1] * scale)), max(16, round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def relit(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma 0.7 to 1.4, contrast 0.7 to 1.3, brightness up to 20 levels up or down; what leaves the range is cut off."""
    levels = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20)
    return np.asarray(cv2.LUT(grey, np.clip(levels, 0, 255).astype(np.uint8)))


def sharpened(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An unsharp mask of 0.5 to 1.5."""
    amount = float(rng.uniform(0.5, 1.5))
    return np.asarray(cv2.addWeighted(grey, 1 + amount, cv2.GaussianBlur(grey, (0, 0), 1.5), -amount, 0))


def cut(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to 3 % of the side cut off at each edge: 6 of 224 pixels."""
    height, width = grey.shape
    top, bottom = (int(value) for value in rng.integers(0, round(0.03 * height) + 1, 2))
    left, right = (int(value) for value in rng.integers(0, round(0.03 * width) + 1, 2))
    return grey[top : height - bottom, left : width - right]


def _laid(name: str) -> Edit:
    return lambda grey, _: np.ascontiguousarray(TRANSFORMS[name](grey))


def everything(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Laid by one of the eight, cut, relit, resized, recoded."""
    for edit in (_laid(str(rng.choice(list(TRANSFORMS)))), cut, relit, resized, recoded):
        grey = edit(grey, rng)
    return grey


EDITS: dict[str, Edit] = {
    "recoded": recoded,
    "resized": resized,
    "relit": relit,
    "sharpened": sharpened,
    "cut": cut,
    **{name: _laid(name) for name in TRANSFORMS if name != "identity"},
    "everything": everything,
}


def neighbouring_slice(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the next slice of the same head looks like: every structure elsewhere by 2 % of the side (RMS), smoothly, fresh noise.

    Real neighbours, 3 to 6 mm apart, change more: structures end and begin.
    """
    height, width = grey.shape
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    for axis, side in ((xs, width), (ys, height)):
        pull = cv2.resize(rng.standard_normal((7, 7)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        axis += 0.02 * side * pull / float(pull.std())
    moved = cv2.remap(grey, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(moved + rng.normal(0, 3, grey.shape), 0, 255).astype(np.uint8)


def crop(grey: np.ndarray, side: int = 224) -> np.ndarray:
    """The crop that training uses, uint8 (side, side), of a decoded picture."""
    box = robust_crop(grey).box
    head = grey[box.y : box.y + box.h, box.x : box.x + box.w]
    return np.asarray(cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA if box.w > side else cv2.INTER_LINEAR))


def crops(greys: Iterator[np.ndarray] | list[np.ndarray], side: int = 224) -> np.ndarray:
    """Crops of all, uint8 (N, side, side)."""
    with ThreadPoolExecutor(available_cpus()) as executor:
        return np.stack(list(executor.map(lambda grey: crop(grey, side), greys)))


def recall_and_precision(greys: list[np.ndarray], edit: Edit, *, side: int = 224, seed: int = 0) -> tuple[float, float]:
    """Of images that are no copies of each other and one edited copy of each: the share of copies found, and of the pairs in
    one group those that are right (1.0 where none is found)."""
    rng = np.random.default_rng(seed)
    count = len(greys)
    groups = find_copies(np.concatenate([crops(greys, side), crops([edit(grey, rng) for grey in greys], side)])).groups
    together = sum(int(size) * (int(size) - 1) // 2 for size in np.bincount(groups))
    found = int((groups[:count] == groups[count:]).sum())
    return found / count, found / together if together else 1.0


def constructed(greys: list[np.ndarray], name: str) -> None:
    """One line per edit."""
    print(f"{len(greys)} {name}, each with one copy: recall, precision")
    for edit_name, edit in EDITS.items():
        recall, precision = recall_and_precision(greys, edit)
        print(f"  {edit_name:<14} {recall:7.2%} {precision:8.2%}", flush=True)
    taken, _ = recall_and_precision(greys, neighbouring_slice)
    print(f"  neighbouring slices taken for copies {taken:.2%}", flush=True)


def phantoms(count: int, *, seed: int) -> list[np.ndarray]:
    """`count` phantoms of all classes, views and sizes, no two with the same head."""
    return [make_phantom(LABELS[number % 4], seed=seed + number).pixels for number in range(count)]


def sheets(pixels: np.ndarray, pairs: pa.Table, file: Path) -> None:
    """Pictures of the 100 confirmed pairs of least likeness and of 100 at random (NAME-random.png), the second image laid as it was
    taken for a copy of the first."""
    least = pairs.sort_by("correlation").slice(0, 100)
    some = pairs.take(np.random.default_rng(0).choice(len(pairs), min(100, len(pairs)), replace=False))
    for words, chosen, path in (
        ("of least likeness", least, file),
        ("at random", some, file.with_name(f"{file.stem}-random{file.suffix}")),
    ):
        listed = chosen.sort_by("correlation").to_pylist()
        laid = [np.hstack([pixels[pair["first"]], TRANSFORMS[pair["transform"]](pixels[pair["second"]])]) for pair in listed]
        cv2.imwrite(str(path), contact_sheet(laid, [f"{pair['correlation']:.3f} {pair['transform']}" for pair in listed]))
        print(f"{len(listed)} pairs {words}, {listed[0]['correlation']:.3f} to {listed[-1]['correlation']:.3f}: {path}")


def real(folder: Path, sheet_file: Path | None) -> None:
    """The groups of a real data set, and constructed copies of 300 of its images, each from a group of its own."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    greys, kept = [], []
    for path in paths:
        try:
            greys.append(decode(path.read_bytes()))
            kept.append(path.relative_to(folder).parts)
        except ImageError as error:
            print(f"left out: {path}: {error}")
    pixels = crops(greys)
    began, cpu = time.perf_counter(), time.process_time()
    found = find_copies(pixels)
    print(f"{len(pixels):,} images: {time.perf_counter() - began:.1f} s, {time.process_time() - cpu:.1f} s of processor time")
    groups, kinds = found.groups, Counter(found.pairs["kind"].to_pylist())
    sizes = np.bincount(groups)
    print(f"{len(sizes):,} groups, {(sizes > 1).sum():,} of two or more, largest {np.sort(sizes)[::-1][:8].tolist()}")
    print("links: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    testing = np.array([parts[0] == "Testing" for parts in kept])
    both = np.isin(groups, groups[~testing]) & testing
    wrong = contradicting(groups, np.array([parts[-2] for parts in kept]))
    print(
        f"groups across Training and Testing {len(np.unique(groups[both])):,}; test images with a copy in training {both.sum():,}"
    )
    print(f"groups with contradicting labels {len(np.unique(groups[wrong])):,}, images in them {wrong.sum():,}")
    if sheet_file:
        sheets(pixels, found.pairs, sheet_file)
    _, firsts = np.unique(groups, return_index=True)
    chosen = np.random.default_rng(0).choice(firsts, min(300, len(firsts)), replace=False)
    constructed([greys[row] for row in chosen], "real images")


def growth(counts: list[int]) -> None:
    """Seconds and memory for sets of pictures made from phantoms by smooth warps: a third of them copies of others."""
    base = crops(phantoms(200, seed=9_000), 64)
    for count in counts:
        rng = np.random.default_rng(count)
        pixels = np.empty((count, 64, 64), np.uint8)
        for row in range(count):
            if row % 3 == 2:
                pixels[row] = recoded(TRANSFORMS[str(rng.choice(list(TRANSFORMS)))](pixels[rng.integers(0, row)]).copy(), rng)
            else:
                pixels[row] = neighbouring_slice(neighbouring_slice(base[rng.integers(0, len(base))], rng), rng)
        began, cpu = time.perf_counter(), time.process_time()
        groups = find_copies(pixels).groups
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{count:>9,} pictures: {seconds:6.1f} s, {cpu:6.1f} s of processor time ({1e3 * cpu / count:.2f} ms each), "
            f"{groups.max() + 1:,} groups of {count - count // 3:,}, {memory:.1f} GiB at most so far",
            flush=True,
        )
    for name, pixels in (("black", np.zeros((100_000, 64, 64), np.uint8)), ("one phantom", np.repeat(base[:1], 100_000, axis=0))):
        began = time.perf_counter()
        groups = find_copies(pixels).groups
        print(f"  100,000 times {name}: {groups.max() + 1} group, {time.perf_counter() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder in the Kaggle layout")
    parser.add_argument("--sheet", type=Path, help="PNG of the doubtful pairs of --data, to be looked at")
    parser.add_argument("--growth", type=int, nargs="*", default=[10_000, 30_000], help="sizes of sets to time")
    chosen = parser.parse_args()
    constructed(phantoms(100, seed=0), "phantoms")
    if chosen.data:
        real(chosen.data, chosen.sheet)
    if chosen.growth:
        growth(chosen.growth)


if __name__ == "__main__":
    main()
