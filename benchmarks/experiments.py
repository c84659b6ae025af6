"""How long the default grid takes once features exist, and what it says: `python -m benchmarks.experiments --data DATA --weights URI`.

The command runs three times in one new folder: with one seed of one recipe, which makes crops and features; with the whole grid; and
again, when all runs are kept. Flags after `--` go to all three, for example `-- --cache DIR --split folders`, where DIR may hold crops
and features, but no runs of this grid.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(output: Path, flags: list[str]) -> tuple[float, str]:
    """Seconds of a `btc-ray experiments` process, Ray's start included, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "btc_ray.cli", "experiments", "--output", str(output), *flags],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.perf_counter() - start, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("flags", nargs="*")
    chosen = parser.parse_args()
    flags = ["--data", chosen.data, "--weights", chosen.weights]
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        flags += chosen.flags if "--cache" in chosen.flags else ["--cache", str(where / "cache"), *chosen.flags]
        (where / "one.yaml").write_text("{epochs: 1, learning_rate: 0.123}")
        first, _ = timed(where / "first", [*flags, "--seeds", "1", "--grid", str(where / "one.yaml")])
        grid, told = timed(where / "grid", flags)
        runs = json.loads((where / "grid" / "summary.json").read_text())["facts"]["Runs"]
        if "kept" in runs:
            print(f"{runs}: nothing to time. Delete the folder experiments in the cache.")
            return 1
        again, repeated = timed(where / "grid", flags)
    tables = [text.partition("\npage ")[0] for text in (told, repeated)]
    print(told)
    print(f"{runs}\n")
    print("| crops, copies, features and one run | the default grid | the same again, all runs kept | the same result |")
    print("|---|---|---|---|")
    print(f"| {first:.0f} s | {grid:.0f} s | {again:.0f} s | {'yes' if tables[0] == tables[1] else 'NO'} |")
    return 0 if tables[0] == tables[1] else 1


if __name__ == "__main__":
    sys.exit(main())
