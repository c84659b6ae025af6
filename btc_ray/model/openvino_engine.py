"""The engine in OpenVINO, for x86 CPUs: starts in half a second without torch, and computes in fp32 or bf16."""

import threading

import numpy as np
import openvino as ov

from btc_ray.model.bundle import Bundle
from btc_ray.model.engine import Choice, Engine, EngineError, Precision
from btc_ray.model.openvino_graph import resnet18
from btc_ray.model.reference import Reference

_HINTS = {"fp32": "f32", "bf16": "bf16"}


def choose_precision(precision: Precision) -> str:
    """The precision that `auto` stands for: bf16 where the CPU has instructions for it, fp32 elsewhere. Raises EngineError."""
    if precision == "fp16":
        raise EngineError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16.")
    has_bf16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:  # OpenVINO would compute in fp32 and not say so
        raise EngineError("--precision bf16 needs bf16 instructions, which this CPU does not have; give fp32.")
    if precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    return precision


class OpenVINOEngine(Engine):
    """ResNet18 compiled for this CPU: `calls` calls compute at a time, with `threads` threads each; None leaves the number to
    OpenVINO."""

    def __init__(
        self,
        bundle: Bundle,
        state: dict[str, np.ndarray],
        choice: Choice,
        *,
        reference: Reference | None = None,
        threads: int | None = None,
        calls: int = 1,
    ) -> None:
        super().__init__(bundle, state, choice, reference)
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[choice.precision],
            "NUM_STREAMS": calls,
            # Workers do not know of each other: pinned, all of them would sit on the same first core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads * calls
        self._model = ov.Core().compile_model(resnet18(self._folded), "CPU", settings)
        self._of_thread = threading.local()

    def _features(self, pixels: np.ndarray) -> np.ndarray:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        request = self._of_thread.request
        request.infer([pixels[:, None]], share_inputs=True)
        return request.get_output_tensor().data
