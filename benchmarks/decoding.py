"""JPEG decoded at a part of its size, beside whole: `python -m benchmarks.decoding`.

Phantoms as JPEG of quality 90. Images/s of one core from bytes to the square that the model sees, both ways in turn, and what the
shortcut changes: how far the edges of the head's box move, and how well the box overlaps the head that was drawn.
"""

import argparse
import io
import statistics
import time

import cv2
import numpy as np
from PIL import Image

from benchmarks.__main__ import processor
from btc_ray.images.crop import Box
from btc_ray.images.prepare import Prepared, Preprocess, prepare
from btc_ray.phantoms.phantom import LABELS, make_phantom

WHOLE, PART = 1, 2  # the algorithms of `images.prepare`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60, help="phantoms of each size")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{processor()}, one core; {chosen.images} phantoms of each size, median of {chosen.rounds} rounds\n")
    print(
        "| picture | model | images/s whole | images/s in part | ratio | edges move, 95 % and most | IoU ≥ 0.9 whole | in part |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for side in (512, 768, 1024, 2048):
        phantoms = [make_phantom(LABELS[seed % len(LABELS)], seed=seed, size=(side, side)) for seed in range(chosen.images)]
        files, heads = [_jpeg(phantom.pixels) for phantom in phantoms], [Box(*phantom.head_box) for phantom in phantoms]
        for size in (160, 224):
            rates: dict[int, list[float]] = {WHOLE: [], PART: []}
            for number in range(chosen.rounds):
                for algorithm in (WHOLE, PART) if number % 2 else (PART, WHOLE):
                    rates[algorithm].append(_rate(files, Preprocess(size=size, algorithm=algorithm)))
            found = {
                algorithm: [prepare(file, Preprocess(size=size, algorithm=algorithm)) for file in files] for algorithm in rates
            }
            moved = (
                np.abs(np.array([_edges(one) for one in found[WHOLE]]) - [_edges(one) for one in found[PART]]).max(axis=1) / side
            )
            good = {algorithm: statistics.mean(_overlap(one, head) >= 0.9 for one, head in zip(several, heads, strict=True))
                    for algorithm, several in found.items()}  # fmt: skip
            whole, part = (statistics.median(rates[algorithm]) for algorithm in (WHOLE, PART))
            ratio = statistics.median(b / a for a, b in zip(rates[WHOLE], rates[PART], strict=True))
            print(
                f"| {side} px, {sum(map(len, files)) / len(files) / 1e3:.0f} kB | {size} px | {whole:,.0f} | {part:,.0f} | {ratio:.2f} "
                f"| {np.quantile(moved, 0.95):.1%}, {moved.max():.1%} | {good[WHOLE]:.1%} | {good[PART]:.1%} |",
                flush=True,
            )


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _rate(files: list[bytes], preprocess: Preprocess) -> float:
    """Images per second of processor time, which other work on the machine disturbs less."""
    began = time.process_time()
    for file in files:
        prepare(file, preprocess)
    return len(files) / (time.process_time() - began)


def _edges(found: Prepared) -> tuple[int, int, int, int]:
    assert found.box is not None
    return found.box.x, found.box.y, found.box.x + found.box.w, found.box.y + found.box.h


def _overlap(found: Prepared, head: Box) -> float:
    """Intersection over union."""
    left, top, right, bottom = _edges(found)
    across = min(right, head.x + head.w) - max(left, head.x)
    down = min(bottom, head.y + head.h) - max(top, head.y)
    both = max(across, 0) * max(down, 0)
    return both / ((right - left) * (bottom - top) + head.w * head.h - both)


if __name__ == "__main__":
    main()
