"""DICOM and NIfTI beside JPEG, up to the square that the model sees: `python -m benchmarks.dicom_decoding`.

Preparation: slices per second of processor time, child processes counted, from bytes to the square that the model sees: the same phantoms
of 512 × 512 as JPEG and as 12-bit DICOM in each transfer syntax, in one enhanced file and as .nii.gz, all in turn in every round; shares
are medians over the rounds. The index: headers per second of processor time. Two cores: JPEG 2000 by two threads beside one, by the clock.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import psutil

from benchmarks.__main__ import processor
from benchmarks.dicom_slices import SYNTAXES, as_dicom, as_enhanced, as_jpeg, as_nifti, as_words, pictures
from btc_ray.images.formats import frame_pool
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.progress import say
from btc_ray.studies.header import dicom_rows
from btc_ray.studies.nifti import nifti_rows
from btc_ray.workers.session import available_cpus

Work = Callable[[], object]
TARGETS = {"uncompressed": 0.65, "RLE": 0.5, "JPEG lossless": 0.25, "JPEG-LS": 0.25, "JPEG 2000": 0.08, ".nii.gz": 1.0}
WARM_UP = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32, help="different ones")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--size", type=int, default=224, help="of what the model sees")
    parser.add_argument("--rounds", type=int, default=7, help="of preparation")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{processor()}, {available_cpus()} cores, load {os.getloadavg()[0]:.0f}")
    print(f"{chosen.pictures} phantoms of {chosen.side} px, crops of {chosen.size}\n")
    greys = pictures(chosen.pictures, chosen.side)
    words = [as_words(grey, number) for number, grey in enumerate(greys)]
    preparation(greys, words, Preprocess(size=chosen.size), chosen.rounds)
    return 0


def preparation(greys: Sequence[np.ndarray], words: Sequence[np.ndarray], preprocess: Preprocess, rounds: int) -> None:
    """Print shares of JPEG's rate, and what the index and two cores do."""
    count = len(words)
    plain = [as_dicom(one, number) for number, one in enumerate(words)]
    jpegs = [as_jpeg(grey) for grey in greys]
    works: dict[str, Work] = {"JPEG": partial(_prepare_all, jpegs, preprocess)}
    for name, syntax in SYNTAXES.items():
        try:
            files = [as_dicom(one, number, syntax) for number, one in enumerate(words)]
        except ImportError as error:
            say(f"{name} is left out: {error.name} is not installed.")
            continue
        works[name] = partial(_prepare_all, files, preprocess)
    enhanced, nifti = as_enhanced(words), as_nifti(words)
    works["enhanced, a frame"] = lambda: _prepare_frames(
        bytes(bytearray(enhanced)), count, preprocess
    )  # other bytes: opened again
    works[".nii.gz"] = lambda: _prepare_frames(bytes(bytearray(nifti)), count, preprocess)
    works["index"] = lambda: [dicom_rows(data, "x", 0) for data in plain]
    works["index of .nii.gz, a slice"] = lambda: nifti_rows(nifti, "x", 0)
    for work in works.values():
        for _ in range(WARM_UP):
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 else -1]:
            began = _processor_seconds()
            works[name]()
            seconds[name].append(_processor_seconds() - began)
    print("| what | slices per second of processor time | of JPEG's rate (least to most) | asked |\n|---|---|---|---|")
    for name, taken in seconds.items():
        shares = [jpeg / one for jpeg, one in zip(seconds["JPEG"], taken, strict=True)]
        print(
            f"| {name} | {count / statistics.median(taken):,.0f} | {statistics.median(shares):.2f} ({min(shares):.2f}, {max(shares):.2f}) "
            f"| {TARGETS.get(name, '')} |",
            flush=True,
        )
    for name, prepared, index in (("DICOM", "uncompressed", "index"), ("NIfTI", ".nii.gz", "index of .nii.gz, a slice")):
        times = statistics.median(one / other for one, other in zip(seconds[prepared], seconds[index], strict=True))
        print(f"\nthe index reads {times:.1f} times as many slices of {name} as are prepared (2 asked)")
    if "JPEG 2000" in works:
        files = [as_dicom(one, number, SYNTAXES["JPEG 2000"]) for number, one in enumerate(words)]
        ratios = [_by_threads(files, preprocess, 1) / _by_threads(files, preprocess, 2) for _ in range(max(rounds // 2, 1))]
        print(f"JPEG 2000, two threads beside one, by the clock: {statistics.median(ratios):.2f} times (1.7 asked)\n")
    frame_pool.close()


def _prepare_all(files: Sequence[bytes], preprocess: Preprocess) -> None:
    for data in files:
        found = prepare(data, preprocess)
        assert found.status == "ok", found.error


def _prepare_frames(data: bytes, frames: int, preprocess: Preprocess) -> None:
    for frame in range(frames):
        found = prepare(data, preprocess, frame)
        assert found.status == "ok", found.error


def _by_threads(files: Sequence[bytes], preprocess: Preprocess, threads: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda data: prepare(data, preprocess), files))
    return time.perf_counter() - began


def _processor_seconds() -> float:
    """Of this process and of its children that run."""
    children = psutil.Process().children()
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in children)


if __name__ == "__main__":
    sys.exit(main())
