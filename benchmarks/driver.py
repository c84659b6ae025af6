"""What a row costs the driver alone, step by step: listing and manifest, dispatch, reconciling, publishing, summary.

    python -m benchmarks.driver [--rows 100000 1000000] [--workers 2]

No image is read or scored. The archive is one tar of 10,000 members without content, hard-linked under as many names as are needed; the
staged rows are made directly from the manifest, 4,096 a file, as Ray Data leaves them. Each step is a process of its own. What counts is
its time of the processor, so that a busy machine counts less, and its peak of memory. Workers are processes of this machine, so that only
the driver is measured; what Ray takes for a task, of which there are a few a file, comes on top. `--workers 0`: the driver does it all.
Needs 400 MB of disk a million rows.
"""

import argparse
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray import cloudpickle

from benchmarks.scale import CLASSES, write_model
from btc_ray.archive.parallel import Spread
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.table import scores_schema
from btc_ray.storage import Place

PER_TAR = 10_000
PER_STAGED_FILE = 4096


def write_archive(folder: Path, rows: int) -> None:
    """Tar files with `rows` members of no bytes, hard links of one file."""
    folder.mkdir(parents=True)
    first = folder / "00000.tar"
    with tarfile.open(first, "w") as tar:
        for number in range(PER_TAR):
            tar.addfile(tarfile.TarInfo(f"patient-{number // 40:04d}/axial_{number % 40:03d}.jpg"), io.BytesIO())
    for number in range(1, rows // PER_TAR):
        os.link(first, folder / f"{number:05d}.tar")


def write_staged(folder: RunFolder, bundle: Bundle) -> None:
    """Results for every row of the manifest, as Ray Data leaves them."""
    random = np.random.default_rng(1)
    schema = scores_schema(bundle)
    for part in folder.manifest.files(".parquet"):
        listed = part.read_table().select(["row_id", "uri"])
        for start in range(0, len(listed), PER_STAGED_FILE):
            block = listed.slice(start, PER_STAGED_FILE)
            rows = len(block)
            probabilities = random.dirichlet(np.ones(len(CLASSES)), rows).astype(np.float32)
            columns: dict[str, Any] = {name: block[name] for name in ("row_id", "uri")} | {
                "status": np.where(random.random(rows) < 0.001, "unreadable", "ok"),
                "crop_status": ["ok"] * rows,
                "label": np.array(CLASSES)[probabilities.argmax(axis=1)],
                "confidence": probabilities.max(axis=1),
                "content_sha256": [random.bytes(32).hex() for _ in range(rows)],
                "model_id": [bundle.model_id] * rows,
                "preprocess_id": [bundle.preprocess_id] * rows,
            }
            columns |= {name: probabilities[:, number] for number, name in enumerate(bundle.probability_columns)}
            table = pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in schema], schema=schema)
            path = folder.staged_ray.path()
            path.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path / f"{listed['row_id'][start].as_py():012d}.parquet")


def spread_over(workers: int) -> Spread:
    """What calls a function in `workers` processes, or here where there are none."""
    if not workers:
        return map

    def spread(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(_call, [cloudpickle.dumps((function, item)) for item in items])

    return spread


def _call(sent: bytes) -> Any:
    function, item = cloudpickle.loads(sent)
    return function(item)


def steps(home: Path, workers: int) -> dict[str, Callable[[], Any]]:
    """What a driver does beside waiting for its workers, in order."""
    from btc_ray.archive.blocks import write_blocks
    from btc_ray.reports.summary.page import COLUMNS, write_summary
    from btc_ray.scoring.finish import staged_ids, write_finished
    from btc_ray.scoring.inputs import list_images
    from btc_ray.settings import Score

    folder = RunFolder(Place(str(home / "run")))
    model, spread = str(home / "model"), spread_over(workers)

    def listing() -> None:
        asked = Score(model=model, input=(str(home / "archive"),), output=str(home / "run"))
        list_images(asked, folder, cpus=2, spread=spread if workers else None)

    def dispatch() -> None:
        write_blocks(folder.manifest.files(".parquet"), folder.blocks, rows_each=PER_STAGED_FILE)

    def reconcile() -> None:
        bundle = read_bundle(Place(model))
        sources = folder.staged_ray.files(".parquet")
        staged_ids(sources)
        names, counts = write_finished(folder, scores_schema(bundle), sources, generation=0, spread=spread)
        (home / "names.json").write_text(json.dumps(names))
        assert counts.rows == sum(pq.read_metadata(part.uri).num_rows for part in folder.manifest.files(".parquet"))

    def publish() -> None:
        folder.publish(json.loads((home / "names.json").read_text()))

    def summary() -> None:
        write_summary(
            scores=folder.score_batches([*COLUMNS, *(f"prob_{name}" for name in CLASSES)]), run={"classes": list(CLASSES)}
        )

    return {
        "listing": listing,
        "dispatch": dispatch,
        "stage": lambda: write_staged(folder, read_bundle(Place(model))),
        "reconcile": reconcile,
        "publish": publish,
        "summary": summary,
    }


def one_step(home: Path, name: str, workers: int) -> dict[str, float]:
    """Seconds of the driver's processor time and of the clock, and peaks of its memory in MB, before and after."""
    step = steps(home, workers)[name]
    before = peak_mb()
    began, used = time.monotonic(), time.process_time()
    step()
    return {
        "cpu": time.process_time() - used,
        "clock": time.monotonic() - began,
        "memory": peak_mb(),
        "before": before,
    }


def peak_mb() -> float:
    """Not `ru_maxrss`, which a process takes over from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(one_step(Path(chosen.step[0]), chosen.step[1], chosen.workers)))
        return 0
    for rows in chosen.rows:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            write_model(home / "model")
            write_archive(home / "archive", rows)
            print(f"{rows:>12,} rows   ms a row, driver   seconds   memory, MB (before)")
            total = 0.0
            for step in steps(home, chosen.workers):
                command = [sys.executable, "-m", "benchmarks.driver", "--workers", str(chosen.workers), "--step", name, step]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                if step == "stage":
                    continue  # the workers' part
                total += found["cpu"]
                print(
                    f"{step:>12}        {1000 * found['cpu'] / rows:>12.5f}   {found['clock']:>9.1f}   "
                    f"{found['memory']:>8,.0f} ({found['before']:,.0f})",
                    flush=True,
                )
            print(f"{'all':>12}        {1000 * total / rows:>12.5f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
