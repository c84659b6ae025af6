"""Whether a worker's memory grows with the images that it has scored: `python -m benchmarks.worker_memory [--rows 50000] [--model BUNDLE]`.

The run of benchmarks.scale: with its model that answers at once a minute is enough for what reads, crops and writes; with a bundle the
engine is watched too. Memory is what is a worker's own: Ray's object store is shared memory that it maps. Ends with 1 where the end is
a tenth above the start.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil

from benchmarks.scale import one_run, write_model, write_shards

WORKERS = ("_ScoringActor", "Write")  # in the titles that Ray gives its processes
LEFT_OUT = 0.15  # of a worker's samples at its start: libraries are loaded, and buffers grow to their size


def watch(over: threading.Event, seen: dict[tuple[str, int], list[float]]) -> None:
    """Every worker's own memory in MB twice a second, by title and process."""
    process = psutil.Process()
    while not over.wait(0.5):
        for child in process.children(recursive=True):
            try:
                title, info = " ".join(child.cmdline()), child.memory_info()
            except psutil.Error:  # gone meanwhile
                continue
            if title.startswith("ray::") and (kind := next((word for word in WORKERS if word in title), None)):
                seen[kind, child.pid].append((info.rss - info.shared) / 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--model", type=Path, help="bundle; default: a model that answers at once")
    chosen = parser.parse_args()
    over, seen = threading.Event(), defaultdict[tuple[str, int], list[float]](list)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        if not chosen.model:
            write_model(home / "model")
        write_shards(home / "archive", chosen.rows)
        watcher = threading.Thread(target=watch, args=(over, seen), daemon=True)
        watcher.start()
        began = time.monotonic()
        found = one_run(home / "archive", home / "run", chosen.model or home / "model", instant=chosen.model is None)
        over.set()
        watcher.join()
    print(f"{found['ok']:,} of {found['rows']:,} images ok in {time.monotonic() - began:.0f} s; a worker's own memory in MB")
    print(f"{'worker':<24} {'start':>7} {'middle':>7} {'end':>7} {'most':>7}")
    flat = found["ok"] == chosen.rows
    for (kind, pid), samples in seen.items():
        steady = samples[int(LEFT_OUT * len(samples)) :]
        if kind == "_ScoringActor" and len(steady) >= 10:
            tenth = max(len(steady) // 10, 1)
            parts = steady[:tenth], steady[(len(steady) - tenth) // 2 :][:tenth], steady[-tenth:]
            start, middle, end = (sum(part) / len(part) for part in parts)
            flat &= end < 1.1 * start
            print(f"{f'{kind} {pid}':<24} {start:>7.0f} {middle:>7.0f} {end:>7.0f} {max(samples):>7.0f}")
    print(json.dumps({f"{kind} {pid}": [round(sample) for sample in samples[::10]] for (kind, pid), samples in seen.items()}))
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
