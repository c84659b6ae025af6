"""The lowest confidence from which on a label may be taken, chosen so that errors among new patients' accepted images stay below a target.

Images of one patient are right and wrong together, so that the bound counts patients, and the choice among many thresholds is itself a
test: nothing is accepted that the patients at hand do not justify.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincinv

LEVEL = 0.95  # of the bound, one-sided, and of the choice as a whole
LEAST_CONFIDENCE = 0.5  # below it another class may be as likely
NOTHING = 1.01  # a confidence that no image reaches
STEPS = 50  # thresholds looked at: those that accept 2, 4, … 100 % of the candidates
EXPECTED = (0.25, 0.1, 0.0)  # errors, as a share of those that the target allows, with which the first threshold would still pass
METHOD = (
    "Fay-Feuer gamma bound of errors summed by unit, with the size-weighted mean unit as the largest event; thresholds tested in a fixed "
    "sequence from strict to lenient (Learn then Test)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Answers about N images by models that never saw their patients.

    Attributes:
        confidence: float (N,), of the label, calibrated.
        right: bool (N,).
        units: int64 (N,), 0 … U − 1: what is drawn independently; the patient where one is known, else the group of copies.
        candidates: bool (N,), those that a bundle may accept at all, by distance and surround; chosen without a look at `right`.
        answers: whose they are, in a word: validation, out-of-fold.
        unit: what a unit is, in words.
    """

    confidence: np.ndarray
    right: np.ndarray
    units: np.ndarray
    candidates: np.ndarray
    answers: str = "validation"
    unit: str = "image"


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What `decision.guarantee` of a bundle records. Counts are of the threshold chosen, or, where none is, of the one that failed.

    `reason` says in words why nothing is accepted; None where the guarantee holds.
    """

    confidence: float
    target_risk: float
    level: float
    upper_bound: float
    images: int  # candidates, with LEAST_CONFIDENCE or more
    accepted: int
    wrong: int
    units: int  # of the accepted images
    units_with_wrong: int
    unit: str
    answers: str
    tested: int  # thresholds
    method: str = METHOD
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Whether anything is accepted."""
        return self.reason is None

    def record(self) -> dict[str, Any]:
        """As a bundle holds it."""
        return asdict(self) | {"holds": self.holds}


def upper_bound(accepted: np.ndarray, wrong: np.ndarray, *, level: float = LEVEL) -> float:
    """One-sided upper confidence bound of the share of wrong images among the accepted ones, when units are drawn anew.

    Errors come in events, one a unit, each of as many images as are wrong there: a compound Poisson sum, bounded by a gamma distribution
    that knows the events' sizes and one more, not yet seen, of the largest size (Fay and Feuer, Confidence intervals for directly
    standardized rates, Statistics in Medicine 1997). As that size the mean unit in which an accepted image stands is taken, with all its
    images wrong. With one image a unit it is the exact Poisson bound: 3 ÷ N where nothing is wrong.

    Args:
        accepted: (U,), accepted images of each unit.
        wrong: (U,), the wrong ones among them.

    Returns 1 for no accepted images, and at most 1.
    """
    images = float(accepted.sum())
    if not images:
        return 1.0
    largest = float((accepted.astype(float) ** 2).sum()) / images
    mean, variance = float(wrong.sum()) + largest, float((wrong.astype(float) ** 2).sum()) + largest**2
    return min(1.0, variance / mean * float(gammaincinv(mean**2 / variance, level)) / images)


def choose_confidence(held_out: HeldOut, *, target: float, level: float = LEVEL) -> Guarantee:
    """The lowest confidence from which on the risk is below `target` with probability `level`, the choice included.

    Thresholds are tested in one order, from strict to lenient, each at the full level, and the first that fails ends it, so that no
    correction for their number is needed (Angelopoulos et al., Learn then Test, 2021: fixed sequence testing). The order and its
    beginning depend on confidences and units alone: the strictest threshold that would pass with a quarter of the errors that the target
    allows, each of another unit; with too few images for that, with a tenth, or with none.
    """
    kept = held_out.candidates & (held_out.confidence >= LEAST_CONFIDENCE)
    confidence, wrong, units = held_out.confidence[kept], ~held_out.right[kept], held_out.units[kept]
    if not len(confidence):
        none = "no image is near enough and at least as likely of one class as of all others"
        return _guarantee(
            held_out, confidence, target, level, NOTHING, (np.zeros(0, int), np.zeros(0, int)), tested=0, reason=none
        )
    thresholds = np.unique(np.quantile(confidence, np.arange(STEPS) / STEPS, method="lower"))[::-1]
    sums = [_by_unit(units[confidence >= threshold], wrong[confidence >= threshold]) for threshold in thresholds]
    first = _beginning([accepted for accepted, _ in sums], target, level)
    passed = 0
    for counts in sums[first:]:
        if upper_bound(*counts, level=level) > target:
            break
        passed += 1
    tested = min(passed + 1, len(sums) - first)
    if not passed:
        reason = _reason(*sums[first], target, level, held_out)
        return _guarantee(held_out, confidence, target, level, NOTHING, sums[first], tested=tested, reason=reason)
    last = first + passed - 1
    return _guarantee(held_out, confidence, target, level, float(thresholds[last]), sums[last], tested=tested)


def _guarantee(
    held_out: HeldOut,
    candidates: np.ndarray,
    target: float,
    level: float,
    confidence: float,
    sums: tuple[np.ndarray, np.ndarray],
    *,
    tested: int,
    reason: str | None = None,
) -> Guarantee:
    accepted, wrong = sums
    return Guarantee(
        confidence=confidence,
        target_risk=target,
        level=level,
        upper_bound=upper_bound(accepted, wrong, level=level),
        images=len(candidates),
        accepted=int(accepted.sum()),
        wrong=int(wrong.sum()),
        units=int((accepted > 0).sum()),
        units_with_wrong=int((wrong > 0).sum()),
        unit=held_out.unit,
        answers=held_out.answers,
        tested=tested,
        reason=reason,
    )


def _by_unit(units: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and wrong images of each unit: int64 (U,) each."""
    return np.bincount(units), np.bincount(units, weights=wrong).astype(np.int64)


def _beginning(accepted: list[np.ndarray], target: float, level: float) -> int:
    """Where the sequence begins, known without a look at which answers are right."""
    for expected in EXPECTED:
        for place, counts in enumerate(accepted):
            if upper_bound(counts, _spread(expected * target * counts.sum()), level=level) <= target:
                return place
    return int(np.argmin([upper_bound(counts, np.zeros(1), level=level) for counts in accepted]))


def _spread(errors: float) -> np.ndarray:
    """So many errors, each of a unit of its own; the last may be a part of one."""
    return np.append(np.ones(int(errors)), errors % 1)


def _reason(accepted: np.ndarray, wrong: np.ndarray, target: float, level: float, held_out: HeldOut) -> str:
    shown = f"{accepted.sum():,} images in {(accepted > 0).sum():,} units (unit: {held_out.unit})"
    least = upper_bound(accepted, np.zeros(1), level=level)
    if least > target:
        return (
            f"too few {held_out.answers} answers: with {shown} the upper {level:.0%} bound of the error rate would be {least:.2%} even if "
            f"none were wrong, above the target of {target:.2%}"
        )
    return (
        f"too many wrong: of {shown} among the most confident {held_out.answers} answers {wrong.sum():,} are wrong, and the upper "
        f"{level:.0%} bound of the error rate is {upper_bound(accepted, wrong, level=level):.2%}, above the target of {target:.2%}"
    )
