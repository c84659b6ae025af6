"""Simulated held-out answers: patients with many slices that are right and wrong together, and images that stand for themselves."""

import numpy as np

from btc_ray.training.guarantee import Guarantee, HeldOut
from btc_ray.training.held_out import OUT_OF_FOLD as ANSWERS

PATIENTS, SINGLES = 209, 1500  # as many as the published data set has


def draw(random: np.random.Generator, *, scale: int = 1, together: float = 0.5) -> HeldOut:
    """Answers about `scale` times PATIENTS and SINGLES, drawn anew: 96 % right.

    The margin of an image is the sum of its patient's part, whose tails are heavy (Student's t, 4 degrees of freedom: some patients
    are surely and wholly wrong), and of its own; `together` is the patient's share of the variance. Its sign says who is right.
    """
    patients, singles = scale * PATIENTS, scale * SINGLES
    sizes = np.concatenate(
        [np.clip(random.lognormal(np.log(18), 0.5, patients).astype(int), 2, 60), random.choice([1, 1, 1, 2, 3], singles)]
    )
    units = np.repeat(np.arange(len(sizes)), sizes)
    mean = np.where(np.arange(len(sizes)) < patients, 1.5, 2.5)
    shared = mean + random.standard_t(4, len(sizes)) * np.sqrt(together / 2)  # a variance of 2
    margin = shared[units] + random.standard_normal(len(units)) * np.sqrt(1 - together)
    return HeldOut(
        confidence=1 / (1 + np.exp(-3 * np.abs(margin))),
        right=margin > 0,
        units=units,
        candidates=np.ones(len(units), bool),
        answers=ANSWERS,
        unit="patient",
    )


def realised(population: HeldOut, found: Guarantee) -> tuple[float, float]:
    """The share of errors among what would be accepted of a population, and the share accepted."""
    taken = population.confidence >= found.confidence
    return (float((~population.right[taken]).mean()) if taken.any() else 0.0), float(taken.mean())
