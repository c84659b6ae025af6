"""What `btc-ray demo` comes to over several seeds: heads that the model has not seen and gets right, how many of the archive it accepts and
how many of those are wrong, and how long it takes.

    python -m benchmarks.demo --seeds 5
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs, with the seeds 0, 1, …")
    print("seed  unseen right  archive right  accepted  of them wrong  seconds")
    for seed in range(parser.parse_args().seeds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            command = [sys.executable, "-m", "btc_ray.cli", "demo", "--output", f"{folder}/demo", "--seed", str(seed)]
            subprocess.run(command, check=True, capture_output=True)
            seconds = time.monotonic() - began
            test = json.loads((Path(folder) / "demo" / "model" / "bundle.json").read_text())["metrics"]["test"]
            rows = pq.read_table(f"{folder}/demo/run/scores", columns=["uri", "status", "label", "decision"]).to_pandas()
            rows = rows[rows["status"] == "ok"]
            right = [label in uri for uri, label in zip(rows["uri"], rows["label"], strict=True)]
            accepted = rows["decision"] == "accept"
            wrong = (accepted & ~rows.assign(right=right)["right"]).sum()
            print(
                f"{seed:<5} {test['accuracy']:>12.1%} {sum(right) / len(rows):>14.1%} {accepted.sum():>9} {wrong:>14} {seconds:>8.0f}"
            )


if __name__ == "__main__":
    main()
