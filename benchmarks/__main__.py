"""All benchmarks in one run: `python -m benchmarks --data DATA [--model BUNDLE]`. RESULTS.md holds what they printed here.

DATA has the Kaggle layout; with BUNDLE, made by `btc-ray retrain --data DATA`, the main job is run as well. benchmarks.experiments,
which needs initial weights, is run by itself.
"""

import argparse
import platform
import subprocess
import sys
from pathlib import Path

from btc_ray.model.bundle import library_versions
from btc_ray.workers.session import available_cpus


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model")
    chosen = parser.parse_args()
    print(
        f"{processor()}, {available_cpus()} cores; "
        + ", ".join(f"{name} {number}" for name, number in library_versions().items())
    )
    commands = [
        ["benchmarks.crops", "--data", chosen.data],
        ["benchmarks.copies", "--data", chosen.data],
        ["benchmarks.training"],
        ["benchmarks.peers", *(["--model", chosen.model] if chosen.model else [])],
    ]
    if chosen.model:
        commands.append(["benchmarks.main_job", "--data", chosen.data, "--model", chosen.model])
        commands.append(["benchmarks.engines", "--data", chosen.data, "--model", chosen.model])
    codes = []
    for module, *flags in commands:
        print(f"\n## python -m {module}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", module, *flags], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
