"""What the model learned from, in feature space: how far an image is from it, and whether its label should be taken.

A network answers a knee or a text page with the same confidence as a brain. What it cannot hide is where such an image lies among
the features it was trained on.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from btc_ray.model.engines.folding import STAGES, softmax

ACCEPT, REVIEW, REJECT = "accept", "review", "reject"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussians:
    """Of the classes, with one covariance: float32 `means` (C, F), `precision` (F, F), the inverse of the covariance."""

    means: np.ndarray
    precision: np.ndarray

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distance to the nearest class mean: float32 (N, F) in, float32 (N,) out."""
        half, means = self._whitening
        apart = (features.astype(np.float64) @ half)[:, None] - means
        return np.linalg.norm(apart, axis=2).min(axis=1, initial=np.inf).astype(np.float32)

    @cached_property
    def _whitening(self) -> tuple[np.ndarray, np.ndarray]:
        """L of P = L Lᵀ, which makes the distance a plain one, and the means seen through it: float64 (F, F) and (C, F)."""
        half = np.linalg.cholesky(self.precision.astype(np.float64))
        return half, self.means.astype(np.float64) @ half


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a model learned from, as its stages see it: `gaussians` of the pooled features of the four stages, in the network's order, and
    `typical` float32 (S,), the median distance of held-out images in each. Bundles of before 0.2.0 have the last stage alone, typical 1.
    """

    gaussians: tuple[Gaussians, ...]
    typical: np.ndarray

    @property
    def of_stages(self) -> bool:
        """Whether distances are measured in more than the last stage."""
        return len(self.gaussians) > 1

    def distance(self, features: np.ndarray) -> np.ndarray:
        """The mean over the stages of the Mahalanobis distance to the nearest class mean, in typical distances: float32 (N, F) of
        all stages in, float32 (N,) out.

        Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks, NeurIPS
        2018; its weights of the stages, which strangers would have to be known for, are equal here.
        """
        return np.mean([one / typical for one, typical in zip(self.distances(features), self.typical, strict=True)], axis=0)

    def distances(self, features: np.ndarray) -> list[np.ndarray]:
        """The Mahalanobis distance in each stage, float32 (N,) each, of float32 (N, F): all stages, one behind the other."""
        ends = np.cumsum([one.means.shape[1] for one in self.gaussians])[:-1]
        return [one.distance(part) for one, part in zip(self.gaussians, np.split(features, ends, axis=1), strict=True)]

    def to_bytes(self) -> bytes:
        """As `reference.safetensors` holds it."""
        from safetensors.numpy import save

        arrays = {"typical": self.typical} if self.of_stages else {}
        for number, one in enumerate(self.gaussians, start=1):
            arrays |= {f"{_stage(number) if self.of_stages else ''}{name}": getattr(one, name) for name in ("means", "precision")}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Reference":
        """Raises KeyError or safetensors' SafetensorError for anything else."""
        from safetensors.numpy import load

        found = load(data)
        stages = [_stage(number) for number in range(1, len(STAGES) + 1)] if "typical" in found else [""]
        gaussians = tuple(Gaussians(means=found[f"{stage}means"], precision=found[f"{stage}precision"]) for stage in stages)
        return cls(gaussians=gaussians, typical=found.get("typical", np.ones(1, np.float32)))


def _stage(number: int) -> str:
    return f"layer{number}."  # as torchvision calls it


def reference_id(data: bytes) -> str:
    """The first 16 hex digits of the sha256 of `reference.safetensors`."""
    return hashlib.sha256(data).hexdigest()[:16]


def thresholds_id(decision: Mapping[str, Any]) -> str | None:
    """What a bundle decides by, as 16 hex digits; None where it does not decide."""
    if not decision:
        return None
    names = ["accept_distance", "reject_distance", "accept_confidence", "reference_id"]
    names += ["accept_surround"] if "accept_surround" in decision else []  # bundles of older versions do not have it
    return hashlib.sha256(json.dumps([decision[name] for name in names]).encode()).hexdigest()[:16]


def energy(logits: np.ndarray) -> np.ndarray:
    """−ln Σ exp(logit), the higher the stranger: float32 (N, C) in, float32 (N,) out. Logits before the temperature.

    Source: Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, at temperature 1.
    """
    highest = logits.max(axis=1, initial=-np.inf)
    return -(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))).astype(np.float32)


def decide(confidence: np.ndarray, distance: np.ndarray, surround: np.ndarray, thresholds: Mapping[str, Any]) -> np.ndarray:
    """accept, review or reject of each image: object (N,).

    Args:
        confidence: float (N,), of the label, calibrated.
        distance: float (N,), of `Reference.distance`.
        surround: float (N,), of `images.surround`.
        thresholds: of a bundle: `reject_distance`, `accept_distance`, `accept_confidence`, and `accept_surround`, which bundles of
            older versions do not have.
    """
    decisions = np.full(len(confidence), REVIEW, object)
    familiar = (distance <= thresholds["accept_distance"]) & (surround <= thresholds.get("accept_surround", np.inf))
    decisions[familiar & (confidence >= thresholds["accept_confidence"])] = ACCEPT
    decisions[distance > thresholds["reject_distance"]] = REJECT
    return decisions


def in_words(decision: Mapping[str, Any]) -> str:
    """What a bundle accepts, puts up for review and rejects, and what that came to on its validation images."""
    if not decision:
        return "No thresholds were measured: nothing is accepted, put up for review or rejected."
    found, near = decision["validation"], f"feature distance at most {decision['accept_distance']:.3g}"
    if "accept_surround" in decision:
        near += f" and surround at most {decision['accept_surround']:.2f}"
    return (
        f"{_accepts(decision, near)} reject: distance above {decision['reject_distance']:.3g}. review: the rest. "
        f"Of {found['images']:,} validation images {found['accepted']:,} are accepted, {found['wrong_among_accepted']:,} of them wrong; "
        f"of all, {found['wrong']:,} are wrong."
    )


def _accepts(decision: Mapping[str, Any], near: str) -> str:
    """From which confidence on a label is taken, and what is known of the errors there; bundles of before 0.2.0 have no guarantee."""
    guarantee = decision.get("guarantee")
    some = decision["accept_confidence"] <= 1
    words = f"accept: confidence at least {decision['accept_confidence']:.3f} and {near}." if some else "accept: nothing"
    if guarantee is None:
        return words if some else f"{words}, since the validation images were too few or too many of them wrong ({near})."
    if not some:
        return f"{words}: {guarantee['reason']}."
    return (
        f"{words} Of new patients' accepted images at most {guarantee['target_risk']:.2%} are wrong, with {guarantee['level']:.0%} "
        f"confidence, if they are like those it was measured on: {guarantee['wrong']:,} of {guarantee['accepted']:,} "
        f"{guarantee['answers']} answers in {guarantee['units']:,} units (unit: {guarantee['unit']}) were wrong there, an upper bound of "
        f"{guarantee['upper_bound']:.2%}."
    )


def most_confident(confidence: np.ndarray, share: float) -> np.ndarray:
    """Which of N images are kept where the least confident are left to a person: bool (N,), at least one.

    Source: El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010.
    """
    kept = np.zeros(len(confidence), bool)
    kept[np.argsort(-confidence, kind="stable")[: max(1, round(share * len(confidence)))]] = True
    return kept


class Answers(NamedTuple):
    """What a model says of N images: float32 `probabilities` (N, classes), `energy` (N,), and `distance` (N,), NaN where the bundle
    has no reference."""

    probabilities: np.ndarray
    energy: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """All that follows the features: float32 `weight` (C, 512) and `bias` (C,), the bundle's temperature and reference."""

    weight: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0
    reference: Reference | None = None

    def answers(self, features: np.ndarray) -> Answers:
        """float32 (N, F): what the reference is measured in, of which the last 512 are what the last layer sees."""
        logits = features[:, -self.weight.shape[1] :] @ self.weight.T + self.bias
        distance = np.full(len(features), np.nan, np.float32) if self.reference is None else self.reference.distance(features)
        return Answers(softmax(logits, self.temperature), energy(logits), distance)
