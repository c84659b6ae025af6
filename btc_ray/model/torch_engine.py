"""The engine in eager PyTorch, on CPU, CUDA or Apple's MPS: channels_last, folded weights, uint8 across to a GPU."""

import numpy as np
import torch
from torch import Tensor

from btc_ray.model.bundle import Bundle, BundleError
from btc_ray.model.engine import Choice, Device, EngineError, Precision
from btc_ray.model.folded import FoldedResNet18
from btc_ray.model.folding import FEATURES, mean_of_views, views
from btc_ray.model.reference import Answers, Head, Reference

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: Device) -> str:
    """The device that `auto` stands for here: CUDA, then MPS, then the CPU. Raises EngineError."""
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have[device]:
        raise EngineError(
            f"--device {device} is not available on this machine; available: {', '.join(n for n in have if have[n])}."
        )
    return device


def choose_precision(precision: Precision, device: str) -> str:
    """The precision that `auto` stands for: half where the hardware has it, fp32 elsewhere. Raises EngineError.

    On a CPU without bf16 instructions bf16 is emulated and several times slower than fp32, so it is never chosen there.
    """
    if precision == "fp16" and device == "cpu":
        raise EngineError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16.")
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "fp32"


class TorchEngine:
    """ResNet18 in eager PyTorch. Safe to call from several threads.

    On a CPU `threads` is the number of threads of one call (`torch.set_num_threads`, which holds for the process): one thread
    a call and as many calls as cores is the fastest arrangement, since small convolutions do not share well.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: dict[str, np.ndarray],
        choice: Choice,
        *,
        reference: Reference | None = None,
        threads: int | None = None,
    ) -> None:
        self.choice = choice
        if threads is not None and choice.device == "cpu":
            torch.set_num_threads(threads)
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
        try:
            self._network = FoldedResNet18(tensors, mean=bundle.mean, std=bundle.std, device=choice.device)
        except KeyError as error:
            raise BundleError(f"the weights are not those of a {bundle.architecture}: {error.args[0]} is missing.") from error
        if self._network.classes != len(bundle.classes):
            raise BundleError(f"the weights tell {self._network.classes} classes apart, bundle.json names {len(bundle.classes)}.")
        weight, bias = self._network.head
        self._head = Head(weight=weight, bias=bias, temperature=bundle.temperature, reference=reference)
        self._flips = bundle.test_time_flips

    def answers(self, pixels: np.ndarray) -> Answers:
        """uint8 (N, H, W) grey crops in; see `Engine`."""
        if len(pixels) == 0:
            return self._head.answers(np.empty((0, FEATURES), np.float32))
        with torch.inference_mode():
            features = self._features(torch.from_numpy(views(pixels, flips=self._flips))).cpu().numpy()
        return self._head.answers(mean_of_views(features, flips=self._flips))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W) grey crops in, float32 (N, classes) probabilities out; temperature applied."""
        return self.answers(pixels).probabilities

    def _features(self, pixels: Tensor) -> Tensor:
        device, precision = self.choice.device, self.choice.precision
        if device == "cuda":  # from pinned memory the copy runs beside the kernels of the batch before
            pixels = pixels.pin_memory()
        pixels = pixels.to(device, non_blocking=True)
        if precision == "fp32":
            return self._network.features(pixels)
        with torch.autocast(device, dtype=_DTYPES[precision]):
            return self._network.features(pixels)
