"""The engine: uint8 grey crops in, what the model says of them out; which one computes, where, and in what arithmetic.

Torch is imported only where it computes: on a CPU with OpenVINO a run never waits for it.
"""

import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from btc_ray.model.bundle import Bundle, BundleError, read_arrays, read_bundle, read_int8, read_reference
from btc_ray.model.folding import FEATURES, fold, mean_of_views, views
from btc_ray.model.reference import Answers, Head, Reference

EngineName = Literal["auto", "torch", "openvino"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # drivers of NVIDIA, of Windows below WSL, and of AMD


class EngineError(ValueError):
    """An engine, device or precision that this machine or this bundle does not have."""


class DeviceError(Exception):
    """The GPU failed, not an image: this process may compute nothing on it any more, a new one may."""


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
        self._flips = bundle.test_time_flips

    @abstractmethod
    def _features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W), N at least 1, to what the last layer sees: float32 (N, 512). Raises DeviceError, and RuntimeError or
        MemoryError where fewer images may go through."""

    def answers(self, pixels: np.ndarray) -> Answers:
        """uint8 (N, H, W) grey crops in; probabilities out in the bundle's class order, temperature applied, with how strange each
        crop is. Raises what `_features` raises."""
        if len(pixels) == 0:
            return self._head.answers(np.empty((0, FEATURES), np.float32))
        return self._head.answers(mean_of_views(self._features(views(pixels, flips=self._flips)), flips=self._flips))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W) grey crops in, float32 (N, classes) probabilities out."""
        return self.answers(pixels).probabilities


def choose(
    *, engine: EngineName = "auto", device: Device = "auto", precision: Precision = "auto", bundle: Bundle | None = None
) -> Choice:
    """What `auto` stands for on this machine: OpenVINO on x86 CPUs where it is installed, else torch; the fastest precision whose
    results are nearly those of fp32: of int8 the `bundle` has to say so. Raises EngineError."""
    if engine == "openvino" and find_spec("openvino") is None:
        raise EngineError("--engine openvino is not installed here: pip install 'btc-ray[cpu]', or give --engine torch.")
    if engine == "openvino" or (engine == "auto" and _openvino_suits(device, precision)):
        from btc_ray.model.openvino_engine import choose_precision

        if device not in ("auto", "cpu"):
            raise EngineError(f"--engine openvino computes on CPUs; for --device {device} give --engine torch.")
        return Choice(engine="openvino", device="cpu", precision=choose_precision(precision, bundle))
    from btc_ray.model import torch_engine

    chosen = torch_engine.choose_device(device)
    return Choice(engine="torch", device=chosen, precision=torch_engine.choose_precision(precision, chosen))


def open_engine(
    uri: str,
    choice: Choice | None = None,
    *,
    threads: int | None = None,
    calls: int = 1,
    batch: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> Engine:
    """Load a bundle's model, computed as `choice` says (None: as `choose` does). On a CPU each of `calls` calls at a time has
    `threads` threads; on any device numpy's linear algebra has no more in this process from now on. CUDA keeps room for
    `batch` images a call, as many as a call brings as a rule. Raises BundleError, EngineError or DeviceError."""
    bundle = read_bundle(uri, storage_options)
    if threads is not None:  # each call's small products would wake a thread on every core, to wait there at full speed
        threadpool_limits(threads, user_api="blas")
    choice = choice or choose(bundle=bundle)
    state, reference = read_arrays(uri, bundle, storage_options), read_reference(uri, bundle, storage_options)
    if choice.engine == "openvino":
        from btc_ray.model.openvino_engine import OpenVINOEngine

        int8 = read_int8(uri, bundle, storage_options) if choice.precision == "int8" else None
        return OpenVINOEngine(bundle, state, choice, reference=reference, int8=int8, threads=threads, calls=calls)
    from btc_ray.model.torch_engine import TorchEngine

    return TorchEngine(bundle, state, choice, reference=reference, threads=threads, calls=calls, batch=batch)


def _openvino_suits(device: Device, precision: Precision) -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64") or device not in ("auto", "cpu") or find_spec("openvino") is None:
        return False
    if precision == "fp16":
        return False  # of GPUs alone: torch says so where there is none
    if device == "cpu":
        return True
    if sys.platform == "linux" and not any(Path(name).exists() for name in GPU_FILES):
        return True  # no driver, no GPU: torch need not be imported to ask it
    from btc_ray.model.torch_engine import choose_device

    return choose_device(device) == "cpu"
