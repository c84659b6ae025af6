"""SIGKILL at random moments of scoring, again and again until the run is complete; then only the tables are looked at: rows lost, rows
doubled, values that differ from those of a run that nobody disturbed, files left behind.

    python -m benchmarks.kills --kills 300                 # in process, the listing and the publishing among the moments
    python -m benchmarks.kills --kills 60 --ray            # the driver and its process group; what is left of its Ray ends by itself
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import run
from benchmarks.scale import write_model
from btc_ray.phantoms.phantom import write_phantoms

LIMIT_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--images", type=int, default=2000, help="in the archive, a twentieth of them different")
    parser.add_argument("--ray", action="store_true", help="on Ray instead of in process")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_model(root / "model")
        write_archive(root / "in", chosen.images)
        command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(root / "model"), "--input", str(root / "in")]
        command += [
            "--local-rows",
            "0" if chosen.ray else str(chosen.images + 1),
            "--engine",
            "torch",
            "--batch-size",
            "8",
            "--output",
        ]
        undisturbed = run([*command, str(root / "undisturbed")], timeout_s=LIMIT_S, temporary=root)
        assert undisturbed.code == 0, undisturbed.said
        expected = rows(root / "undisturbed")
        kills = runs = lost = doubled = other = left = 0
        while kills < chosen.kills:
            output = root / f"run-{runs}"
            while True:
                done = run([*command, str(output)], timeout_s=moments.uniform(0, undisturbed.seconds), temporary=root)
                assert done.code in (0, None), done.said
                if done.code == 0:
                    break
                kills += 1
            found = rows(output)
            ids = found["row_id"].to_pylist()
            lost += len(set(expected["row_id"].to_pylist()) - set(ids))
            doubled += len(ids) - len(set(ids))
            other += not found.equals(expected)
            left += len(list(output.rglob(".*"))) + (output / "_work").exists()
            runs += 1
    print(
        f"{kills} kills {'on Ray' if chosen.ray else 'in process'} in {runs} runs of {chosen.images:,} images ({undisturbed.seconds:.1f} s "
        f"undisturbed): {lost} rows lost, {doubled} doubled, {other} tables with another value, {left} files or folders left behind"
    )
    sys.exit(bool(lost or doubled or other or left))


def rows(folder: Path) -> pa.Table:
    """The published scores of a run."""
    return pq.read_table(folder / "scores").sort_by("row_id").combine_chunks()


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
