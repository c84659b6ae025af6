"""What an audit costs as data sets grow: time and the driver's memory by step, the page's size, and whether planted copies are told.

    python -m benchmarks.audit_scale [--images 5000 20000 100000] [--weights none|URI] [--keep DIR]

Small phantoms (96 × 96) in the Kaggle layout, in units of twenty: two heads of seven slices each, three of them mirrored and three
re-encoded, so that the numbers on the page are known beforehand. Each audit is a process of its own. 0.4 GB of disk for 100,000 files
and 7 GB for what the audit keeps of them.
"""

import argparse
import contextlib
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.copies import neighbouring_slice
from btc_ray.phantoms.phantom import LABELS, make_phantom
from btc_ray.workers.session import available_cpus

UNIT, HEADS, SLICES, COPIES = 20, 2, 7, 3  # of a unit: 14 slices, then 3 of them mirrored and 3 re-encoded
CONFLICTS, BROKEN = 50, 100  # one unit in so many has a copy under another label, or a file that is no image

STEPS = {  # how a line on stderr begins → the step that begins with it
    "Starting Ray": "start Ray, describe files",
    "Files described": "crop",
    "Cropping": "crop",
    "Looking for copies": "copies",
    "Features": "after the copies",
    "Estimating viewing planes": "planes",
    "Looking for labels": "labels in doubt",
    "Probe": "probes",
    "Writing the page": "tables and page",
}


def write_unit(folder: Path, number: int) -> None:
    """Twenty files, and now and then one more that is none."""
    random = np.random.default_rng([number, 7])
    slices: list[tuple[str, np.ndarray]] = []
    for head in range(HEADS):
        label = LABELS[(HEADS * number + head) % len(LABELS)]
        first = make_phantom(label, seed=HEADS * number + head, size=(96, 96)).pixels
        slices += [(label, first)]
        slices += [(label, neighbouring_slice(neighbouring_slice(first, random), random)) for _ in range(SLICES - 1)]
    for place, (label, grey) in enumerate(slices):
        _write(
            folder, "Testing" if place >= len(slices) - 2 else "Training", label, f"{number:05d}-{place:02d}", grey, ".jpg", 90
        )
    for place in range(COPIES):
        split = "Testing" if place == 0 else "Training"
        label, grey = slices[place]
        _write(folder, split, label, f"{number:05d}-{place:02d}-mirrored", np.ascontiguousarray(grey[:, ::-1]), ".png", 0)
        label, grey = slices[COPIES + place]
        if place == COPIES - 1 and number % CONFLICTS == 0:
            label = LABELS[(LABELS.index(label) + 1) % len(LABELS)]
        _write(folder, split, label, f"{number:05d}-{place:02d}-recoded", grey, ".jpg", 60)
    if number % BROKEN == 0:
        (folder / "Training" / label / f"{number:05d}-broken.jpg").write_bytes(b"\xff\xd8\xff")


def _write(folder: Path, split: str, label: str, name: str, grey: np.ndarray, suffix: str, quality: int) -> None:
    target = folder / split / label / f"{name}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    encoded, data = cv2.imencode(suffix, grey, [cv2.IMWRITE_JPEG_QUALITY, quality] if quality else [])
    assert encoded
    target.write_bytes(data.tobytes())


def write_data(folder: Path, images: int) -> None:
    """`images` files, made by as many processes as there are cores, unless they are there already."""
    units = range(images // UNIT)
    if not (folder / "made").exists():
        with multiprocessing.get_context("spawn").Pool(available_cpus()) as pool:
            for _ in pool.imap_unordered(partial(write_unit, folder / "data"), units, chunksize=16):
                pass
        (folder / "made").touch()


def planted(images: int) -> dict[str, int]:
    """What the page has to say, by its name in `counts` of audit.json."""
    units = images // UNIT
    conflicts, broken = -(-units // CONFLICTS), -(-units // BROKEN)
    return {
        "images": UNIT * units + broken,
        "unreadable": broken,
        "test_images": 4 * units,
        "groups": HEADS * SLICES * units + broken,
        "images_with_a_copy": 4 * COPIES * units,
        "test_images_with_copy_in_training": 2 * units,
        "groups_with_conflicting_labels": conflicts,
    }


def joined_wrongly(groups: pa.Table) -> int:
    """Groups of `groups.parquet` that hold two different pictures, by the names that `write_unit` gave them."""
    pictures: dict[int, set[tuple[str, int]]] = {}
    for uri, group in zip(groups["uri"].to_pylist(), groups["group"].to_pylist(), strict=True):
        if name := re.search(r"(\d{5})-(\d{2})(-recoded|-mirrored)?\.", uri):  # recoded ones are of the slices after the mirrored
            place = int(name[2]) + (COPIES if name[3] == "-recoded" else 0)
            pictures.setdefault(group, set()).add((name[1], place))
    return sum(len(found) > 1 for found in pictures.values())


def audit(folder: Path, weights: str) -> tuple[int, list[dict[str, Any]]]:
    """Audit in a process of its own: exit code and, for each step, `seconds`, `processor` seconds of all processes, and the peak of
    the driver's memory in bytes: `own` of it, and `mapped`, its own and the files mapped into it that the system may take back."""
    command = [sys.executable, "-m", "btc_ray.cli", "audit", "--address", "local", "--data", str(folder / "data")]
    command += ["--output", str(folder / "audit"), "--cache", str(folder / "cache"), "--weights", weights]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    meter, over, steps = _Meter(psutil.Process(process.pid)), threading.Event(), [_Step("list files")]

    def watch() -> None:
        while not over.wait(0.2):
            meter.read(steps[-1])

    threading.Thread(target=watch, daemon=True).start()
    assert process.stderr is not None
    for line in process.stderr:
        print(f"    {line.rstrip()}", file=sys.stderr, flush=True)
        name = next((step for start, step in STEPS.items() if line.startswith(start)), None)
        if name is not None and name != steps[-1].name:
            steps[-1].end()
            steps.append(_Step(name))
    code = process.wait()
    over.set()
    steps[-1].end()
    return code, [vars(step) for step in steps]


class _Step:
    def __init__(self, name: str) -> None:
        self.name, self.processor, self.own, self.mapped = name, 0.0, 0, 0
        self.seconds = time.monotonic()

    def end(self) -> None:
        self.seconds = time.monotonic() - self.seconds


class _Meter:
    """Reads the driver's memory, and the time of the driver, Ray and its workers, those included that have ended since."""

    def __init__(self, driver: psutil.Process) -> None:
        self._driver, self._seen = driver, dict[psutil.Process, float]()

    def read(self, step: _Step) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = self._driver.memory_info()
            step.own, step.mapped = max(step.own, memory.rss - memory.shared), max(step.mapped, memory.rss)
            for process in (self._driver, *self._driver.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    seconds = sum(process.cpu_times()[:2])
                    step.processor += seconds - self._seen.get(process, 0.0)
                    self._seen[process] = seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 20_000, 100_000])
    parser.add_argument("--weights", default="none", help="a ResNet18 state dict: labels in doubt are looked for as well")
    parser.add_argument("--keep", type=Path, help="leave images, cache and page here, and take what is here")
    chosen = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        home = chosen.keep or Path(name)
        for images in chosen.images:
            folder = home / str(images)
            folder.mkdir(parents=True, exist_ok=True)
            write_data(folder, images)
            code, steps = audit(folder, chosen.weights)
            good &= code == 0
            print(f"{images:,} images, exit code {code}")
            print(f"  {'step':<28} {'s':>8} {'processor s':>12} {'ms an image':>12} {'driver, own MB':>15} {'and mapped':>11}")
            for step in steps:
                print(
                    f"  {step['name']:<28} {step['seconds']:>8.1f} {step['processor']:>12.1f} "
                    f"{1000 * step['processor'] / images:>12.2f} {step['own'] / 1e6:>15,.0f} {step['mapped'] / 1e6:>11,.0f}"
                )
            if code:
                continue
            counts = json.loads((folder / "audit" / "audit.json").read_text())["counts"]
            sizes = ", ".join(
                f"{path.name} {path.stat().st_size / 1e6:,.2f} MB" for path in sorted((folder / "audit").glob("*.*"))
            )
            print(
                f"  {sizes}; groups that join different pictures: {joined_wrongly(pq.read_table(folder / 'audit' / 'groups.parquet'))}"
            )
            for key, wanted in planted(images).items():
                print(
                    f"  {key:<36} {counts[key]:>9,} of {wanted:>9,} planted{'' if counts[key] == wanted else '  ✗'}", flush=True
                )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
