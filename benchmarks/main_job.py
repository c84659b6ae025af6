"""The main job on real images, as a user runs it: does scoring give what training reported, on both paths and from every packing?

    python -m benchmarks.main_job --data DATA --model BUNDLE

DATA has the Kaggle layout, BUNDLE comes from `btc-ray retrain --data DATA`. Prints a table; exits with 1 where something disagrees.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place


def score(model: Path, source: Path, run: Path, *flags: str) -> tuple[pd.DataFrame, float]:
    """Score as a process of its own; the table and the wall time in seconds."""
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--input", str(source), "--output", str(run)]
    began = time.monotonic()
    subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    return pq.read_table(run / "scores").to_pandas().sort_values("row_id", ignore_index=True), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    chosen = parser.parse_args()
    testing = chosen.data / "Testing"
    images = sorted(path for path in testing.rglob("*") if path.is_file())
    reported = read_bundle(Place(str(chosen.model))).metrics["test"]["accuracy"]
    agrees = True
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with zipfile.ZipFile(home / "images.zip", "w") as archive, tarfile.open(home / "images.tar.gz", "w:gz") as tarball:
            for image in images:
                archive.write(image, str(image.relative_to(testing)))
                tarball.add(image, str(image.relative_to(testing)))
        first: pd.DataFrame | None = None
        print(f"{'way':<34} {'rows':>6} {'ok':>6} {'accuracy':>9} {'labels differ':>14} {'largest Δp':>11} {'seconds':>8}")
        for way, source, flags in (
            ("folder, in one process", testing, ()),
            ("folder, on Ray", testing, ("--local-rows", "0")),
            ("zip, in one process", home / "images.zip", ()),
            ("tar.gz, in one process", home / "images.tar.gz", ()),
        ):
            table, seconds = score(chosen.model, source, home / way.replace(" ", "-"), *flags)
            first = table if first is None else first
            accuracy = float((table["label"] == table["uri"].str.split("[/:]+", regex=True).str[-2]).mean())
            differ = int((table["label"] != first["label"]).sum())
            floats = [column for column in table.columns if column.startswith("prob_")]
            delta = float(np.abs(table[floats].to_numpy() - first[floats].to_numpy()).max())
            ok = int((table["status"] == "ok").sum())
            print(f"{way:<34} {len(table):>6,} {ok:>6,} {accuracy:>9.4f} {differ:>14} {delta:>11.1e} {seconds:>8.1f}")
            agrees &= ok == len(images) and differ == 0 and abs(accuracy - reported) <= 0.005
        (home / "hundred").mkdir()
        for number, image in enumerate(images[:: len(images) // 100][:100]):
            (home / "hundred" / f"{number:03d}{image.suffix}").write_bytes(image.read_bytes())
        _, seconds = score(chosen.model, home / "hundred", home / "run-hundred")
        print(f"{'100 images, in one process':<34} {100:>6} {'':>47} {seconds:>8.1f}")
    print(f"training reported {reported:.4f} on the same images")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
