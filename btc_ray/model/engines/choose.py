"""Which engine computes, where, and in what arithmetic; `auto` resolved on this machine, and a bundle opened with it.

Torch is imported only where it computes: on a CPU with OpenVINO a run never waits for it.
"""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from threadpoolctl import threadpool_limits

from btc_ray.model.bundle import Bundle, read_arrays, read_bundle, read_int8, read_reference
from btc_ray.model.engines.engine import Choice, Engine, EngineError
from btc_ray.settings.job import Device, Precision
from btc_ray.settings.job import Engine as EngineChoice
from btc_ray.storage import Place

GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # drivers of NVIDIA, of Windows below WSL, and of AMD


def choose(
    *, engine: EngineChoice = "auto", device: Device = "auto", precision: Precision = "auto", bundle: Bundle | None = None
) -> Choice:
    """What `auto` stands for on this machine: OpenVINO on x86 CPUs where it is installed, else torch; the fastest precision whose
    results are nearly those of fp32: of int8 the `bundle` has to say so. Raises EngineError."""
    if engine == "openvino" and find_spec("openvino") is None:
        raise EngineError("--engine openvino is not installed here: pip install 'btc-ray[cpu]', or give --engine torch.")
    if engine == "openvino" or (engine == "auto" and _openvino_suits(device, precision)):
        from btc_ray.model.engines.openvino_engine import choose_precision

        if device not in ("auto", "cpu"):
            raise EngineError(f"--engine openvino computes on CPUs; for --device {device} give --engine torch.")
        return Choice(engine="openvino", device="cpu", precision=choose_precision(precision, bundle))
    from btc_ray.model.engines import torch_engine

    chosen = torch_engine.choose_device(device)
    return Choice(engine="torch", device=chosen, precision=torch_engine.choose_precision(precision, chosen))


def open_engine(
    place: Place,
    choice: Choice | None = None,
    *,
    bundle: Bundle | None = None,
    threads: int | None = None,
    calls: int = 1,
    batch: int | None = None,
) -> Engine:
    """Load a bundle's model, computed as `choice` says (None: as `choose` does). `bundle`: what it said when the job began: a bundle
    that was replaced since is refused. On a CPU each of `calls` calls at a time has
    `threads` threads; on any device numpy's linear algebra has no more in this process from now on. CUDA keeps room for
    `batch` images a call, as many as a call brings as a rule. Raises BundleError, EngineError or DeviceError."""
    bundle = bundle or read_bundle(place)
    if threads is not None:  # each call's small products would wake a thread on every core, to wait there at full speed
        threadpool_limits(threads, user_api="blas")
    choice = choice or choose(bundle=bundle)
    state, reference = read_arrays(place, bundle), read_reference(place, bundle)
    if choice.engine == "openvino":
        from btc_ray.model.engines.openvino_engine import OpenVINOEngine

        int8 = read_int8(place, bundle) if choice.precision == "int8" else None
        return OpenVINOEngine(bundle, state, choice, reference=reference, int8=int8, threads=threads, calls=calls)
    from btc_ray.model.engines.torch_engine import TorchEngine

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
    from btc_ray.model.engines.torch_engine import choose_device

    return choose_device(device) == "cpu"
