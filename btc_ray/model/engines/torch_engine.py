"""The engine in PyTorch, on CPU, CUDA or Apple's MPS: channels_last, folded weights, uint8 across to a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from btc_ray.errors import DeviceError
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.cuda_graphs import LARGEST, MOST, GraphedStreams
from btc_ray.model.engines.engine import Choice, Engine, EngineError
from btc_ray.model.engines.folded import FoldedResNet18
from btc_ray.model.engines.folding import FEATURES, POOLED
from btc_ray.model.reference import Reference
from btc_ray.settings.job import Device, Precision

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
    if precision == "int8":
        raise EngineError(
            "--precision int8 needs --engine openvino (x86 CPUs; pip install 'btc-ray[cpu]'); torch has bf16 and fp32."
        )
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "fp32"


class TorchEngine(Engine):
    """ResNet18 in PyTorch.

    On a CPU `threads` is the number of threads of one call (`torch.set_num_threads`, which holds for the process): one thread
    a call and as many calls as cores is the fastest arrangement, since small convolutions do not share well.

    On CUDA crops of the bundle's size are computed in `streams`, `batch` images at most at a time; others, and all on MPS, as they come.
    How cuDNN computes is set for the process: the fastest kernels of those it has; in fp32 without TF32, whose 10 bits of mantissa are no
    fp32; in half precision with it, for what stays fp32 there (benchmarks/GPU.md has what that changes).
    """

    def __init__(
        self,
        bundle: Bundle,
        state: dict[str, np.ndarray],
        choice: Choice,
        *,
        reference: Reference | None = None,
        threads: int | None = None,
        calls: int = 1,
        batch: int | None = None,
    ) -> None:
        if threads is not None and choice.device == "cpu":
            torch.set_num_threads(threads)
        super().__init__(bundle, state, choice, reference)
        self._streams: GraphedStreams | None = None
        with _blaming_the_device():
            self._network = FoldedResNet18(
                self._folded, device=choice.device, dtype=_DTYPES[choice.precision], stages=self._stages
            )
            if choice.device == "cuda":
                torch.backends.cudnn.benchmark = True
                torch.backends.cudnn.allow_tf32 = choice.precision != "fp32"
                size = Preprocess.from_dict(bundle.preprocess).size
                self._streams = GraphedStreams(
                    self._network.features,
                    device=choice.device,
                    batch=min(batch or LARGEST, LARGEST),
                    shape=(size, size),
                    width=POOLED if self._stages else FEATURES,
                    count=min(calls, MOST),
                )

    def _features(self, pixels: np.ndarray) -> np.ndarray:
        with _blaming_the_device(), torch.inference_mode():
            if self._streams is not None and pixels.shape[1:] == self._streams.shape:
                return self._streams.features(pixels)
            return self._network.features(torch.from_numpy(pixels).to(self.choice.device)).cpu().numpy()


@contextmanager
def _blaming_the_device() -> Iterator[None]:
    try:
        yield
    except torch.AcceleratorError as error:  # after most of these every further call of the process fails
        raise DeviceError(f"the GPU failed: {str(error).splitlines()[0]}. A new process may be able to use it again.") from error
