"""Does a run look like what the model was validated on? Counts in bins, there and here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

SOME, LARGE = 0.1, 0.25  # the customary limits of the index (Siddiqi, Credit Risk Scorecards, 2006)


def population_stability(expected: Sequence[float] | np.ndarray, found: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """The population stability index Σ (q − p) ln(q / p) of two histograms over the same bins.

    Args:
        expected: counts of the validation images.
        found: counts of the run.

    Returns:
        `index`; `chance`, what it stays below in 95 of 100 samples of these sizes from one population (Yurdakul and Naranjo,
        Statistical properties of the population stability index, 2020: (1/N + 1/M) χ² with B − 1 degrees of freedom); and `verdict`:
        `none`, `some`, `large`, or `unknown` where one side is empty.
    """
    there, here = np.array(expected, float), np.array(found, float)
    if not there.sum() or not here.sum():
        return {"index": None, "chance": None, "verdict": "unknown"}
    used = (there + here) > 0
    # Half an image in each bin: an empty one would make the index infinite.
    p, q = ((side[used] + 0.5) / (side[used] + 0.5).sum() for side in (there, here))
    index = float(((q - p) * np.log(q / p)).sum())
    chance = float((1 / there.sum() + 1 / here.sum()) * chi2.ppf(0.95, max(int(used.sum()) - 1, 1)))
    verdict = "none" if index <= max(SOME, chance) else "some" if index <= max(LARGE, chance) else "large"
    return {"index": index, "chance": chance, "verdict": verdict}
