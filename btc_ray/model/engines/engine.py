"""The engine: uint8 grey crops in, what the model says of them out; which one computes, where, and in what arithmetic.

Torch is imported only where it computes: on a CPU with OpenVINO a run never waits for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from btc_ray.errors import UserError
from btc_ray.model.bundle import Bundle, BundleError
from btc_ray.model.engines.folding import FEATURES, POOLED, fold, mean_of_views, views
from btc_ray.model.reference import Answers, Head, Reference


class EngineError(UserError):
    """An engine, device or precision that this machine or this bundle does not have."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What computes. Nothing in it is `auto`: two runs of equal choice on equal bundles may share a table."""

    engine: str
    device: str
    precision: str


class Engine(ABC):
    """A bundle's model. What computes the features is a subclass; safe to call from several threads."""

    def __init__(self, bundle: Bundle, state: Mapping[str, np.ndarray], choice: Choice, reference: Reference | None) -> None:
        """`state`: of a torchvision `resnet18`. Raises BundleError where it is none, or not that of the bundle's classes."""
        try:
            self._folded = fold(state, mean=bundle.mean, std=bundle.std)
        except KeyError as error:
            raise BundleError(f"the weights are not those of a {bundle.architecture}: {error.args[0]} is missing.") from error
        weight, bias = self._folded.head
        if len(bias) != len(bundle.classes):
            raise BundleError(f"the weights tell {len(bias)} classes apart, bundle.json names {len(bundle.classes)}.")
        self.choice = choice
        self._head = Head(weight=weight, bias=bias, temperature=bundle.temperature, reference=reference)
        self._stages = reference is not None and reference.of_stages  # what distances are measured from
        self._flips = bundle.test_time_flips
        self._size = int(bundle.preprocess["size"])

    @abstractmethod
    def _features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W), N at least 1, to what the last layer sees: float32 (N, 512), or, where distances are measured from all stages,
        to what they leave: float32 (N, 960). Raises DeviceError, and RuntimeError or MemoryError where fewer images may go through."""

    def answers(self, pixels: np.ndarray) -> Answers:
        """uint8 (N, size, size) grey crops in; probabilities out in the bundle's class order, temperature applied, with how strange
        each crop is. Raises TypeError and ValueError for other arrays, and what `_features` raises."""
        if pixels.dtype != np.uint8:
            raise TypeError(f"crops are uint8, not {pixels.dtype}")
        if pixels.ndim != 3 or pixels.shape[1:] != (self._size, self._size):
            raise ValueError(f"crops are (N, {self._size}, {self._size}), not {pixels.shape}; cut them with images.prepare")
        if len(pixels) == 0:
            return self._head.answers(np.empty((0, POOLED if self._stages else FEATURES), np.float32))
        return self._head.answers(mean_of_views(self._features(views(pixels, flips=self._flips)), flips=self._flips))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, size, size) grey crops in, float32 (N, classes) probabilities out."""
        return self.answers(pixels).probabilities
