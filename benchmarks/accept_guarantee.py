"""Does the guarantee of `accept` hold, and what does it cost? On the out-of-fold answers of a real training, patients redrawn many times.

    python -m benchmarks.accept_guarantee OUTPUT/out_of_fold.parquet [--targets 0.01 0.02 0.05] [--draws 200]

Two rules choose a confidence from drawn patients: the one of before (the lowest at which the share of errors itself is at the target)
and the guarantee. "halves": half of the units chooses, and the errors are counted on the other half, whose own chance is in the number:
a threshold of exactly the target's risk is above it there in about half of the draws, so that "shown" counts those whose own lower 95 %
bound is above the target. "redrawn": as many units as there are, drawn with
replacement, choose, and the whole file is the population, so that its risk is known and nothing but the rule is measured.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.special import gammaincinv

from btc_ray.training.guarantee import LEAST_CONFIDENCE, LEVEL, NOTHING, HeldOut, choose_confidence
from btc_ray.training.held_out import held_out_answers

Rule = Callable[[HeldOut, float], float]
Draw = Callable[[HeldOut, np.random.Generator], tuple[HeldOut, HeldOut]]  # to choose by, and to be measured on

COLUMNS = (
    "target", "patients", "rule", "risk above the target", "shown", "risk, mean", "risk, 95 of 100 below", "accepted, mean",
    "nothing accepted",
)  # fmt: skip


def before(held_out: HeldOut, target: float) -> float:
    """The lowest confidence at and above which at most `target` of the images are wrong; NOTHING under 1 ÷ `target` images."""
    confidence, right = held_out.confidence, held_out.right
    if len(confidence) * target < 1:
        return NOTHING
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    last = np.append(np.diff(confidence[order]) != 0, True)  # equal confidences go together
    sure = confidence[order] >= LEAST_CONFIDENCE
    good = np.flatnonzero(last & sure & (wrong <= target * np.arange(1, len(order) + 1)))
    return float(confidence[order[good[-1]]]) if len(good) else NOTHING


def guaranteed(held_out: HeldOut, target: float) -> float:
    """The rule of a bundle."""
    return choose_confidence(held_out, target=target).confidence


RULES: dict[str, Rule] = {"before": before, "guarantee": guaranteed}


def only(held_out: HeldOut, rows: np.ndarray, units: np.ndarray) -> HeldOut:
    """The answers at `rows`, as answers about `units`."""
    numbers = np.unique(units, return_inverse=True)[1]
    return replace(
        held_out,
        confidence=held_out.confidence[rows],
        right=held_out.right[rows],
        candidates=held_out.candidates[rows],
        units=numbers,
    )


def halves(held_out: HeldOut, random: np.random.Generator) -> tuple[HeldOut, HeldOut]:
    """One half of the units to choose by, and the other to be measured on."""
    mine = random.permutation(held_out.units.max() + 1) % 2 == 0
    first, second = np.flatnonzero(mine[held_out.units]), np.flatnonzero(~mine[held_out.units])
    return only(held_out, first, held_out.units[first]), only(held_out, second, held_out.units[second])


def redrawn(held_out: HeldOut, random: np.random.Generator, *, order: np.ndarray, starts: np.ndarray) -> tuple[HeldOut, HeldOut]:
    """As many units as there are, with replacement, each drawing a unit of its own; and the whole, to be measured on."""
    drawn = random.integers(0, len(starts) - 1, len(starts) - 1)
    rows = [order[starts[unit] : starts[unit + 1]] for unit in drawn.tolist()]
    units = np.repeat(np.arange(len(drawn)), [len(one) for one in rows])
    return only(held_out, np.concatenate(rows), units), held_out


def lower_bound(held_out: HeldOut, confidence: float) -> float:
    """One-sided lower 95 % bound of the error rate of what is accepted, by unit (Fay and Feuer 1997); 0 where none is wrong."""
    taken = held_out.confidence >= confidence
    wrong = np.bincount(held_out.units[taken], weights=~held_out.right[taken])
    errors, squares = float(wrong.sum()), float((wrong**2).sum())
    return squares / errors * float(gammaincinv(errors**2 / squares, 1 - LEVEL)) / int(taken.sum()) if errors else 0.0


def realised(population: HeldOut, confidence: float) -> tuple[float, float]:
    """The share of errors among what is accepted, and the share accepted."""
    taken = population.confidence >= confidence
    return (float((~population.right[taken]).mean()) if taken.any() else 0.0), float(taken.mean())


def measure(answers: HeldOut, draw: Draw, target: float, *, draws: int, seed: int, known: bool) -> dict[str, np.ndarray]:
    """For each rule float (draws, 3): the risk realised, the share accepted, and whether the risk is shown to be above the target.

    `known`: what is measured on is the whole population, whose risk needs no bound.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in RULES}
    for _ in range(draws):
        choosing, measured = draw(answers, random)
        for name, rule in RULES.items():
            confidence = rule(choosing, target)
            risk, accepted = realised(measured, confidence)
            found[name].append((risk, accepted, (risk if known else lower_bound(measured, confidence)) > target))
    return {name: np.array(rows, float) for name, rows in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.01, 0.02, 0.05])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    answers = held_out_answers(pq.read_table(chosen.answers))
    order = np.argsort(answers.units, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(answers.units)))
    ways: dict[str, Draw] = {"halves": halves, "redrawn": partial(redrawn, order=order, starts=starts)}
    print(
        f"{len(answers.right):,} answers, {answers.right.mean():.2%} right, {len(starts) - 1:,} units; unit: {answers.unit}. "
        f"{chosen.draws} draws; twice the standard error of a share of 5 % is {2 * np.sqrt(0.05 * 0.95 / chosen.draws):.1%}.\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    held = True
    for target in chosen.targets:
        for way, draw in ways.items():
            found = measure(answers, draw, target, draws=chosen.draws, seed=chosen.seed, known=way == "redrawn")
            for name, (risk, accepted, shown) in ((name, rows.T) for name, rows in found.items()):
                held &= shown.mean() <= 0.05 or name != "guarantee"
                cells = (
                    f"{target:.1%}", way, name, f"{(risk > target).mean():.1%}", f"{shown.mean():.1%}", f"{risk.mean():.2%}",
                    f"{np.quantile(risk, 0.95):.2%}", f"{accepted.mean():.1%}", f"{(accepted == 0).mean():.0%}",
                )  # fmt: skip
                print(f"| {' | '.join(cells)} |")
    print("\nOn all answers:")
    for target in chosen.targets:
        risk, accepted = realised(answers, old := before(answers, target))
        print(f"- {target:.1%}, before: confidence {old:.4f}, {accepted:.1%} accepted, {risk:.2%} wrong")
        whole = choose_confidence(answers, target=target)
        share = whole.accepted / len(answers.right)
        print(
            f"- {target:.1%}, guarantee: confidence {whole.confidence:.4f}, {share:.1%} accepted, "
            f"{whole.wrong / whole.accepted:.2%} wrong, upper bound {whole.upper_bound:.2%}"
            if whole.holds
            else f"- {target:.1%}, guarantee: nothing accepted; {whole.reason}"
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
