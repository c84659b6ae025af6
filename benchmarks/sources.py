"""Does a model go by the class or by where an image comes from? Trained without other sources, with half of each, with all but one.

    python -m benchmarks.sources --data TABLE.csv --home NAME --output FOLDER [--arms none half …]
        [flags of `btc-ray retrain`: --train head --appearance 0.5 …]

TABLE.csv: `uri,label,source[,group]`. Images of the source `home` (and those that name none) are split by patients as `retrain` does it,
the same way in every arm. Of other sources an arm learns from none; from one half of each, and then from the other (the groups of a
source stay together, and every image is measured by the model that did not learn from it); or from all but the one that is measured.
Sensitivity: tumours not called the class without one; specificity: images without one that are called so. Intervals: 95 %, resampled by
group. Crops, copies and features are kept in FOLDER, so that with --train head an arm is a matter of a minute.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from btc_ray.dataset.labelled import LabelledImages
from btc_ray.reports.evaluation.sources import Elsewhere, assess_answers
from btc_ray.reports.shared.bootstrap import Figure
from btc_ray.settings import Retrain
from btc_ray.settings.parse import parse
from btc_ray.training.fit import check_converged, fit, labelled_images
from btc_ray.training.head import head_logits
from btc_ray.training.prepare import prepare_retrain
from btc_ray.workers.session import ray_session

NONE, HALF, OTHERS = "none", "half", "others"  # what is learned of other sources
HALVES = ("first", "second")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--home", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--arms", nargs="+", choices=(NONE, HALF, OTHERS), default=(NONE, HALF, OTHERS))
    chosen, flags = parser.parse_known_args()
    settings = parse(Retrain, ["--data", chosen.data, "--output", str(chosen.output / "model"), *flags], program="sources")
    prepared = prepare_retrain(settings)
    rows: list[dict[str, Any]] = []
    with ray_session(settings)():
        images = labelled_images(settings, prepared)
        source = np.array([name or chosen.home for name in images.crops.rows["source"].to_pylist()], object)
        said: dict[str, np.ndarray] = {}
        for arm, split in arms(images, source, chosen.home, which=chosen.arms, seed=settings.seed):
            sides = replace(images, split=split)
            network = fit(settings, prepared, sides)
            check_converged(network)
            test = sides.rows("test")
            answers = head_logits(network.state, network.features)[test].argmax(axis=1)
            name = arm.partition(":")[0]
            whole = said.setdefault(name, np.full(len(source), -1))
            whole[test] = answers
            if arm != f"half of each:{HALVES[0]}":
                found = measured(images, source, whole, name)
                rows += found
                print(table(found), flush=True)  # each arm as soon as it is done
                said.pop(name)
    (chosen.output / "sources.json").write_text(json.dumps({"flags": flags, "rows": rows}, indent=1) + "\n")
    print(table(rows))
    return 0


def arms(
    images: LabelledImages, source: np.ndarray, home: str, *, which: Sequence[str] = (NONE, HALF, OTHERS), seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """What each training learns from and is measured on: a name, and a `split` of all images. One with a colon is a part of an arm."""
    at_home = source == home
    others = sorted(set(source[~at_home].tolist()))
    first = np.zeros(len(source), bool)
    random = np.random.default_rng(seed)
    for name in others:
        groups = np.unique(images.groups[source == name])
        first |= np.isin(images.groups, random.permutation(groups)[: len(groups) // 2]) & (source == name)

    def split(learned: np.ndarray, tested: np.ndarray) -> np.ndarray:
        sides = images.split.copy()
        usable = images.split != "left_out"
        sides[~at_home] = "left_out"
        sides[learned & usable & ~at_home] = "train"
        sides[tested & usable & ~at_home] = "test"
        return sides

    if NONE in which:
        yield "home alone", split(np.zeros(len(source), bool), ~at_home)
    for half, learned in zip(HALVES, (first, ~first), strict=True):
        if HALF in which:
            yield f"half of each:{half}", split(learned, ~learned)
    for name in others if OTHERS in which else ():
        yield f"all but {name}", split(source != name, source == name)


def measured(images: LabelledImages, source: np.ndarray, said: np.ndarray, arm: str) -> list[dict[str, Any]]:
    """A row for each source that was measured. `said` int64 (N,): the class answered, −1 where nobody asked."""
    rows = np.flatnonzero(said >= 0)
    uri, label = (np.array(images.crops.rows[name].to_pylist(), object)[rows] for name in ("uri", "label"))
    asked = Elsewhere(uri=uri, label=label, source=source[rows], group=images.groups[rows])
    answers = np.array(images.classes, object)[said[rows]]
    return [{"arm": arm} | one for one in assess_answers(asked, answers, np.full(len(rows), None), images.classes)]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    columns = ("arm", "source", "measured", "accuracy", "tumour_sensitivity", "specificity")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join(
        lines
        + [
            f"| {' | '.join(str(row[name]) for name in columns[:3])} | {' | '.join(_share(row[name]) for name in columns[3:])} |"
            for row in rows
        ]
    )


def _share(found: Figure) -> str:
    if found["value"] is None:
        return "–"
    bounds = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{found['value']:.3f}{bounds}"


if __name__ == "__main__":
    sys.exit(main())
