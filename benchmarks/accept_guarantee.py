"""Does the guarantee of `accept` hold, and what does it cost? On the out-of-fold answers of a real training, patients redrawn many times.

    python -m benchmarks.accept_guarantee OUTPUT/out_of_fold.parquet [--targets 0.01 0.02 0.05] [--draws 200]

Two rules choose a confidence from drawn patients: the one of before (the lowest at which the share of errors itself is at the target)
and the guarantee. "halves": half of the units chooses, and the errors are counted on the other half, whose own chance is in the number:
a threshold of exactly the target's risk is above it there in about half of the draws. "redrawn": as many units as there are, drawn with
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

from btc_ray.training.guarantee import LEAST_CONFIDENCE, NOTHING, HeldOut, choose_confidence
from btc_ray.training.held_out import held_out_answers

Rule = Callable[[HeldOut, float], float]


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


def realised(population: HeldOut, confidence: float) -> tuple[float, float]:
    """The share of errors among what is accepted, and the share accepted."""
    taken = population.confidence >= confidence
    return (float((~population.right[taken]).mean()) if taken.any() else 0.0), float(taken.mean())


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
    ways = {"halves": halves, "redrawn": partial(redrawn, order=order, starts=starts)}
    print(
        f"{len(answers.right):,} answers, {answers.right.mean():.2%} right, {len(starts) - 1:,} units; unit: {answers.unit}. "
        f"{chosen.draws} draws; twice the standard error of a share of 5 % is {2 * np.sqrt(0.05 * 0.95 / chosen.draws):.1%}.\n"
    )
    print(
        "| target | patients | rule | risk above the target | risk, mean | risk, 95 of 100 below | accepted, mean | nothing accepted |"
    )
    print("|---|---|---|---|---|---|---|---|")
    held = True
    for target in chosen.targets:
        for way, draw in ways.items():
            random = np.random.default_rng(chosen.seed)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in RULES}
            for _ in range(chosen.draws):
                choosing, measured = draw(answers, random)
                for name, rule in RULES.items():
                    found[name].append(realised(measured, rule(choosing, target)))
            for name, numbers in found.items():
                risk, accepted = np.array(numbers).T
                above = float((risk > target).mean())
                held &= above <= 0.05 or (name, way) != ("guarantee", "redrawn")
                print(
                    f"| {target:.1%} | {way} | {name} | {above:.1%} | {risk.mean():.2%} | {np.quantile(risk, 0.95):.2%} | "
                    f"{accepted.mean():.1%} | {(accepted == 0).mean():.0%} |"
                )
    print("\nOn all answers:")
    for target in chosen.targets:
        whole = choose_confidence(answers, target=target)
        risk, accepted = realised(answers, old := before(answers, target))
        print(
            f"- {target:.1%}: before, confidence {old:.4f}: {accepted:.1%} accepted, {risk:.2%} wrong. Guarantee: "
            + (
                f"confidence {whole.confidence:.4f}: {whole.accepted / len(answers.right):.1%} accepted, {whole.wrong:,} wrong, "
                f"upper bound {whole.upper_bound:.2%}."
                if whole.holds
                else f"nothing accepted; {whole.reason}."
            )
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
