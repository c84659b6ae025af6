"""The engine in OpenVINO, for x86 CPUs: starts in half a second without torch, and computes in fp32, bf16 or int8."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov

from btc_ray.model.bundle import NO_INT8, Bundle
from btc_ray.model.engines.engine import Choice, Engine, EngineError
from btc_ray.model.engines.openvino_graph import int8_resnet18, resnet18
from btc_ray.model.int8.form import Int8Network
from btc_ray.model.reference import Answers, Reference
from btc_ray.settings.job import Precision

_HINTS = {"fp32": "f32", "bf16": "bf16"}
CLEAR = 0.9  # what int8 is less sure of than this is computed again
INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}  # any one of them, as Linux names them


def choose_precision(precision: Precision, bundle: Bundle | None = None) -> str:
    """The precision that `auto` stands for: int8 where the CPU has instructions for it and the bundle's record says that it agreed
    with fp32, else bf16 where the CPU has instructions for that, else fp32. Raises EngineError."""
    if precision == "fp16":
        raise EngineError("--precision fp16 needs a GPU; on a CPU use fp32 or bf16.")
    if precision == "int8":
        if not has_int8():  # others multiply 8-bit numbers into 16 bits that overflow: neither fast nor what was measured
            raise EngineError("--precision int8 needs VNNI instructions (and Linux, which says so); give bf16 or fp32.")
        if bundle is not None and not bundle.int8:
            raise EngineError(f"--precision int8: the bundle {NO_INT8}")
        return precision
    if precision == "auto" and bundle is not None and bundle.int8.get("passed") is True and has_int8():
        return "int8"
    if precision == "bf16" and not _has_bf16():  # OpenVINO would compute in fp32 and not say so
        raise EngineError("--precision bf16 needs bf16 instructions, which this CPU does not have; give fp32.")
    return exacter() if precision == "auto" else precision


def exacter() -> str:
    """The fastest precision of this CPU that needs no record."""
    return "bf16" if _has_bf16() else "fp32"


def _has_bf16() -> bool:
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_int8(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for sums of 8-bit products. OpenVINO says int8 of every CPU."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not INT8_FLAGS.isdisjoint(flags.split())


class Compiled:
    """A graph of `openvino_graph` compiled for this CPU: `calls` calls compute at a time, with `threads` threads each; None leaves the
    number to OpenVINO."""

    def __init__(self, graph: ov.Model, *, precision: str, threads: int | None, calls: int = 1) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": calls,
            # Workers do not know of each other: pinned, all of them would sit on the same first core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads * calls
        self._model = ov.Core().compile_model(graph, "CPU", settings)
        self._of_thread = threading.local()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W) → float32 (N, 512), or (N, 960) of all stages, in memory that this thread's next call writes over."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        request = self._of_thread.request
        request.infer([pixels[:, None]], share_inputs=True)
        found: np.ndarray = request.get_output_tensor().data
        return found


class OpenVINOEngine(Engine):
    """ResNet18 compiled for this CPU: `calls` calls compute at a time, with `threads` threads each; None leaves the number to
    OpenVINO.

    In int8 the images whose label is not clear, about three in a hundred, are computed again in bf16 (fp32 where the CPU has none).
    A logit that is off by d moves a probability p by p (1 - p) d: at most d / 4 where it is a toss-up, and d / 11 from 0.9 on, so
    what rounding to 8 bits could decide is left to the exacter arithmetic.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: dict[str, np.ndarray],
        choice: Choice,
        *,
        reference: Reference | None = None,
        int8: Int8Network | None = None,
        threads: int | None = None,
        calls: int = 1,
    ) -> None:
        super().__init__(bundle, state, choice, reference)
        if (choice.precision == "int8") != (int8 is not None):
            raise EngineError("int8 is computed with the bundle's network in 8 bits, and nothing else is.")
        if int8 is not None and self._stages and int8.stage_scale is None:
            raise EngineError("the bundle's int8 form lacks the scales of the stages; give --precision bf16 or fp32.")
        if int8 is not None and not has_int8():  # a worker need not have the CPU of the one that chose
            raise EngineError("int8 was chosen, and this machine's CPU has no VNNI instructions; give --precision bf16 or fp32.")
        left_over = exacter() if choice.precision == "int8" else choice.precision  # the arithmetic of what is not in int8
        graph = (
            resnet18(self._folded, stages=self._stages)
            if int8 is None
            else int8_resnet18(self._folded, int8, stages=self._stages)
        )
        self._output_scale = None if int8 is None else int8.scale_of(stages=self._stages)
        self._compiled = Compiled(graph, precision=left_over, threads=threads, calls=calls)
        self._again: OpenVINOEngine | None = None
        self._opening = threading.Lock()

        def open_again() -> OpenVINOEngine:
            exact = replace(choice, precision=left_over)
            return OpenVINOEngine(bundle, state, exact, reference=reference, threads=threads, calls=calls)

        self._open_again = open_again

    def answers(self, pixels: np.ndarray) -> Answers:
        answers = super().answers(pixels)
        if self.choice.precision != "int8":
            return answers
        unclear = np.flatnonzero(answers.probabilities.max(axis=1, initial=0.0) < CLEAR)
        if len(unclear):
            with self._opening:  # not before the first: compiling takes a third of a second
                self._again = self._again or self._open_again()
            for ours, theirs in zip(answers, self._again.answers(pixels[unclear]), strict=True):
                ours[unclear] = theirs
        return answers

    def _features(self, pixels: np.ndarray) -> np.ndarray:
        found = self._compiled(pixels)
        return found if self._output_scale is None else found * self._output_scale
