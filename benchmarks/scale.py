"""What a row costs as archives grow, the model left out: cost per row and the driver's memory, from ten thousand images to a million.

    python -m benchmarks.scale [--rows 10000 100000 1000000]

Tiny phantoms (96 × 96 JPEG) in tar shards of 10,000, scored on Ray with a model that answers at once, so that everything else shows:
listing, manifest, blocks, reading, cropping, Parquet, reconciling. Each size is a process of its own. Needs 6 GB of disk a million.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from btc_ray.model.reference import Answers
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus, keep_idle_processes

PER_SHARD = 10_000
DISTINCT = 200
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


class Instant:
    """An engine that says the same of every image."""

    device = "cpu"

    def answers(self, pixels: np.ndarray) -> Answers:
        unknown = np.full(len(pixels), np.nan, np.float32)
        return Answers(np.tile(np.float32([0.4, 0.3, 0.2, 0.1]), (len(pixels), 1)), np.zeros(len(pixels), np.float32), unknown)


def without_a_model() -> None:
    """Set up in every worker: models are not loaded, and answer at once."""
    from btc_ray.scoring import distributed

    distributed.open_engine = lambda *args, **named: Instant()  # type: ignore[assignment]


def write_shards(folder: Path, rows: int) -> None:
    """Tar files of phantoms, each many times under another name."""
    from btc_ray.phantoms.phantom import write_phantoms

    with tempfile.TemporaryDirectory() as name:
        write_phantoms(Path(name), per_class=DISTINCT // 4, seed=1, splits=("Training",), size=(96, 96))
        images = []
        for path in sorted(Path(name).rglob("*.*")):
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            images.append(cv2.imencode(".jpg", grey)[1].tobytes())
    folder.mkdir(parents=True)
    for first in range(0, rows, PER_SHARD):
        with tarfile.open(folder / f"{first // PER_SHARD:05d}.tar", "w") as shard:
            for number in range(first, min(first + PER_SHARD, rows)):
                data = images[number % len(images)]
                member = tarfile.TarInfo(f"{number:08d}.jpg")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))


def one_run(archive: Path, run: Path, model: Path, *, instant: bool = True) -> dict[str, Any]:
    """Score in this process's Ray: seconds, and the peak of the driver's memory in bytes. `instant`: the model answers at once."""
    import ray

    from btc_ray.cli import main as command

    workers = max(available_cpus(), 2)
    keep_idle_processes(workers)  # as the command's own Ray does
    ray.init(
        address="local",
        num_cpus=workers,
        object_store_memory=1 << 30,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"worker_process_setup_hook": without_a_model} if instant else None,
    )
    over, peak, process = threading.Event(), [0], psutil.Process()

    def watch() -> None:
        while not over.wait(0.2):
            # Ray's object store is shared memory that the driver maps; what is the driver's own is the rest.
            info = process.memory_info()
            peak[0] = max(peak[0], info.rss - info.shared)

    threading.Thread(target=watch, daemon=True).start()
    began = time.monotonic()
    code = command(["score", "--model", str(model), "--input", str(archive), "--output", str(run), "--local-rows", "0"])
    seconds = time.monotonic() - began
    over.set()
    processor = sum(_processor_seconds(item) for item in (process, *process.children(recursive=True)))
    state = json.loads((run / "run.json").read_text())
    ray.shutdown()
    return {
        "code": code,
        "rows": state["counts"]["rows"],
        "ok": state["counts"]["status"].get("ok", 0),
        "seconds": seconds,
        "scoring": state["sessions"][0]["seconds"],
        "memory": peak[0],
        "processor": processor,
    }


def _processor_seconds(process: psutil.Process) -> float:
    """Of a process and of its children that are gone."""
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", nargs=3, metavar=("ARCHIVE", "RUN", "MODEL"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one_run(*map(Path, chosen.one))))
        return 0
    good = True
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write_model(home / "model")
        write_shards(home / "start", 32)
        start = measured(home, "start")
        print(
            f"start and end of a run, measured on 32 images and left out of the cost of a row: {start['seconds']:.1f} s, "
            f"{start['processor']:.1f} s of processor time; cost of a row in ms, the last of them the driver's before and after scoring"
        )
        print(f"{'rows':>10} {'ok':>10} {'seconds':>9} {'ms a row':>9} {'processor':>10} {'alone':>7} {'driver, MB':>11}")
        for rows in chosen.rows:
            write_shards(home / str(rows), rows)
            found = measured(home, str(rows))
            good &= found["ok"] == rows
            # Listing before, reconciling and summary after: what more nodes do not make faster.
            alone = (found["seconds"] - found["scoring"]) - (start["seconds"] - start["scoring"])
            print(
                f"{rows:>10,} {found['ok']:>10,} {found['seconds']:>9.1f} {1000 * (found['seconds'] - start['seconds']) / rows:>9.3f} "
                f"{1000 * (found['processor'] - start['processor']) / rows:>10.3f} {1000 * alone / rows:>7.3f} "
                f"{found['memory'] / 1e6:>11,.0f}",
                flush=True,
            )
    return 0 if good else 1


def measured(home: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--one", *map(str, (home / name, home / f"run-{name}", home / "model"))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_model(folder: Path) -> None:
    """A bundle whose weights nobody loads."""
    from btc_ray.images.prepare import Preprocess
    from btc_ray.model.bundle import write_bundle
    from btc_ray.model.weights import initial_network

    state = initial_network("none", len(CLASSES), seed=0).state_dict()
    write_bundle(
        Place(str(folder)), state=state, classes=CLASSES, preprocess=Preprocess(size=32), training={}, data={}, metrics={}
    )


if __name__ == "__main__":
    sys.exit(main())
