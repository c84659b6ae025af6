"""What `decision` does with images that are no brain MRI: `btc-ray score` of them beside the model's own test images.

    python -m benchmarks.out_of_distribution --model BUNDLE --data DATA [--figure FILE.png]

DATA is what the bundle was trained from; of it the images that `split.parquet` calls test are shown. AUROC is that of the feature
distance, of the energy and of the surround as a test of "does not belong". Needs pydicom for its part. Where the bundle is of a
version that had no `accept_surround` yet, its validation images give it here. "by distance" is what would be accepted without it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

from benchmarks.strangers import strangers
from btc_ray.model.bundle import read_bundle
from btc_ray.model.reference import ACCEPT, REJECT, REVIEW, decide
from btc_ray.storage import Place
from btc_ray.training.thresholds import KEPT_SURROUND

DECISIONS = (ACCEPT, REVIEW, REJECT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100, help="pictures of each kind made by code")
    parser.add_argument("--figure", type=Path, help="write the distances as a PNG")
    chosen = parser.parse_args()
    bundle = read_bundle(Place(str(chosen.model)))
    if not bundle.decision:
        parser.error("this bundle has no thresholds; train it again")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for kind, pictures in strangers(chosen.count).items():
            (home / "images" / kind).mkdir(parents=True)
            for number, picture in enumerate(pictures):
                cv2.imwrite(str(home / "images" / kind / f"{number:04d}.png"), picture)
        table = _score(chosen.model, home / "images", home / "strangers")
        table["kind"] = table["uri"].str.split("/").str[-2]
        real = _score(chosen.model, chosen.data, home / "real")
    split = pq.read_table(chosen.model / "split.parquet").to_pandas()
    validation, real = (
        real[real["content_sha256"].isin(split.loc[split["split"] == name, "content_sha256"])] for name in ("validation", "test")
    )
    surround = {"accept_surround": float(validation["surround"].quantile(KEPT_SURROUND))}
    thresholds = surround | bundle.decision
    before = {name: value for name, value in thresholds.items() if name != "accept_surround"}
    print(
        f"{len(real):,} test images, accept_distance {thresholds['accept_distance']:.1f} (keeps 95 % of the validation images), "
        f"accept_surround {thresholds['accept_surround']:.3f} (99 %)"
    )
    columns = ("images", "AUROC distance", "AUROC energy", "AUROC surround", "within 95 %", "within 99 %", "by distance")
    print(f"{'kind':<22} " + " ".join(f"{name:>14}" for name in (*columns, *DECISIONS)))
    groups = [("the model's test images", real), *table.groupby("kind")]
    for kind, rows in groups:
        measures = [rows[name].to_numpy() for name in ("confidence", "feature_distance", "surround")]
        scores = [
            "" if rows is real else f"{_auroc(real[column], rows[column]):.4f}"
            for column in ("feature_distance", "energy", "surround")
        ]
        air = int((rows["surround"] <= thresholds["accept_surround"]).sum())
        decided = decide(*measures, thresholds)
        counts = [air, int((decide(*measures, before) == ACCEPT).sum()), *(int((decided == name).sum()) for name in DECISIONS)]
        near = int((rows["feature_distance"] <= bundle.decision["accept_distance"]).sum())
        print(f"{kind:<22} " + " ".join(f"{value:>14}" for value in (len(rows), *scores, near, *counts)))
    if chosen.figure:
        _draw(groups, bundle.decision, chosen.figure)
    return 0


def _score(model: Path, source: Path, run: Path) -> pd.DataFrame:
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--input", str(source), "--output", str(run)]
    subprocess.run([*command, "--local-rows", "1000000"], check=True, stdout=subprocess.DEVNULL)
    table = pq.read_table(run / "scores").to_pandas()
    return table[table["status"] == "ok"]


def _auroc(real: pd.Series, strange: pd.Series) -> float:
    scores = np.nan_to_num(np.r_[real, strange], nan=np.inf)  # a picture without contrast has no surround
    return float(roc_auc_score(np.r_[np.zeros(len(real)), np.ones(len(strange))], np.clip(scores, None, 1e9)))


def _draw(groups: list[tuple[str, pd.DataFrame]], decision: dict[str, float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, (_, rows) in enumerate(reversed(groups)):
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(rows))
        axes.plot(rows["feature_distance"], place + jitter, ".", markersize=3, alpha=0.5)
    axes.set_yticks(range(len(groups)), [f"{kind} ({len(rows)})" for kind, rows in reversed(groups)])
    for name in ("accept_distance", "reject_distance"):
        axes.axvline(decision[name], color="0.4", linewidth=1, linestyle="--" if name.startswith("accept") else "-")
    axes.set_xscale("log")
    axes.set_xlabel("feature distance (dashed: accept_distance, solid: reject_distance)")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
