"""SIGKILL, SIGTERM or Ctrl-C at random moments of a job, again and again until it is complete; then only the tables are looked at: rows
lost, rows doubled, values that differ from those of a job that nobody disturbed, files and processes left behind.

    python -m benchmarks.kills --kills 300                 # scoring in process, the listing and the publishing among the moments
    python -m benchmarks.kills --kills 60 --finishing      # first once the finished tables are being written and moved
    python -m benchmarks.kills --kills 60 --ray            # the driver and its process group; what is left of its Ray ends by itself
    python -m benchmarks.kills --kills 30 --retrain        # metrics.parquet and split.parquet are the tables
    python -m benchmarks.kills --kills 20 --signal TERM    # to the driver alone, which has to end with 130 and leave no process
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import Ran, run
from benchmarks.scale import write_model
from btc_ray.errors import COMPLETE, INTERRUPTED
from btc_ray.phantoms.phantom import write_phantoms

LIMIT_S = 1800.0
FINISHING_S = 0.5  # after the first finished file is there


@dataclass(frozen=True, kw_only=True)
class Job:
    """`command` ends where the output folder is to be named; `finishing`: what is in the output once its end has begun; `tables`: the
    folders or files that are compared, each with the columns that tell its rows from each other."""

    words: str
    command: list[str]
    finishing: str
    tables: dict[str, list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--images", type=int, default=2000, help="in the archive, a twentieth of them different; to train on: 40")
    parser.add_argument("--ray", action="store_true", help="score on Ray instead of in process")
    parser.add_argument("--retrain", action="store_true", help="train the last layer instead of scoring")
    parser.add_argument("--finishing", action="store_true", help="the first of each run in the last phase of the job")
    parser.add_argument("--signal", choices=["KILL", "TERM", "INT"], default="KILL")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begins no other run after so long")
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = retraining(root) if chosen.retrain else scoring(root, chosen.images, ray=chosen.ray)
        undisturbed = run([*job.command, str(root / "undisturbed")], timeout_s=LIMIT_S, temporary=root)
        assert undisturbed.code == COMPLETE, undisturbed.said
        kills = runs = survivors = 0
        found = [0, 0, 0, 0]
        spent = 0.0
        while kills < chosen.kills and spent < chosen.seconds:
            output = root / f"run-{runs}"
            while (done := disturbed(job, output, root, moments, undisturbed, chosen)).code != COMPLETE:
                # None: killed; by the signal itself: before the program had begun to listen
                assert done.code in (None, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT), done.said
                assert done.code != INTERRUPTED or "the same command again continues" in done.said, done.said
                kills, survivors, spent = kills + 1, survivors + done.survivors, spent + done.seconds
            spent += done.seconds
            found = [sum(pair) for pair in zip(found, differences(job, root / "undisturbed", output), strict=True)]
            runs += 1
    lost, doubled, other, left = found
    when = "first in its last phase" if chosen.finishing else "at any moment"
    print(
        f"{kills} SIG{chosen.signal} to {job.words} {when}, {runs} runs ({undisturbed.seconds:.1f} s undisturbed): {lost} rows lost, "
        f"{doubled} doubled, {other} tables with another value, {left} files or folders and {survivors} processes left behind"
    )
    sys.exit(bool(lost or doubled or other or left or survivors))


def disturbed(job: Job, output: Path, root: Path, moments: random.Random, undisturbed: Ran, chosen: argparse.Namespace) -> Ran:
    """One attempt, ended at a random moment where it is not complete before. With --finishing the first attempt of a run is ended in its
    last phase; those that continue it have little more than that phase to do."""
    mark = output / job.finishing
    in_last_phase = chosen.finishing and not mark.exists()
    return run(
        [*job.command, str(output)],
        timeout_s=moments.uniform(0, FINISHING_S if in_last_phase else undisturbed.seconds),
        counted_from=mark if in_last_phase else None,
        signal_name=chosen.signal,
        temporary=root,
    )


def scoring(root: Path, images: int, *, ray: bool) -> Job:
    write_model(root / "model")
    write_archive(root / "in", images)
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(root / "model"), "--input", str(root / "in")]
    command += ["--local-rows", "0" if ray else str(images + 1), "--engine", "torch", "--batch-size", "8", "--output"]
    words = f"scoring of {images:,} images {'on Ray' if ray else 'in process'}"
    return Job(words=words, command=command, finishing="_work/finished", tables={"scores": ["row_id"]})


def retraining(root: Path) -> Job:
    write_phantoms(root / "data", per_class=10, seed=1, splits=("Training",), size=(96, 96))
    command = [
        sys.executable,
        "-m",
        "btc_ray.cli",
        "retrain",
        "--data",
        str(root / "data"),
        "--weights",
        "none",
        "--train",
        "head",
    ]
    command += ["--epochs", "6", "--size", "64", "--seed", "0", "--output"]
    tables = {"metrics.parquet": ["epoch", "split"], "split.parquet": ["uri"]}
    return Job(words="retraining", command=command, finishing="model.safetensors", tables=tables)


def differences(job: Job, undisturbed: Path, output: Path) -> tuple[int, int, int, int]:
    """Rows lost and doubled, tables with another value, hidden files and staging folders left behind."""
    lost = doubled = other = 0
    for name, keys in job.tables.items():
        expected, found = rows(undisturbed / name, keys), rows(output / name, keys)
        names = [tuple(row.values()) for row in found.select(keys).to_pylist()]
        lost += len({tuple(row.values()) for row in expected.select(keys).to_pylist()} - set(names))
        doubled += len(names) - len(set(names))
        other += not found.equals(expected)
    return lost, doubled, other, len(list(output.rglob(".*.tmp"))) + (output / "_work").exists()


def rows(table: Path, keys: list[str]) -> pa.Table:
    """A published table in the order of its keys, without what a clock says."""
    found = pq.read_table(table).sort_by([(name, "ascending") for name in keys]).combine_chunks()
    return found.drop_columns([name for name in found.column_names if name == "seconds"])


def write_archive(folder: Path, images: int) -> None:
    """Hard links to a twentieth as many phantoms."""
    sources = write_phantoms(
        folder.parent / "sources", per_class=max(1, images // 80), seed=1, splits=("night",), size=(128, 128)
    )
    folder.mkdir()
    for number in range(images):
        source = sources[number % len(sources)]
        os.link(source, folder / f"{number:05d}{source.suffix}")


if __name__ == "__main__":
    main()
