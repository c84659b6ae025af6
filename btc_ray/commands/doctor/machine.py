"""What computes here: engines and precisions with a timed sample, Ray, GPUs, stores, initial weights, memory and disk."""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from btc_ray import storage
from btc_ray.commands.doctor.check import Check
from btc_ray.errors import BtcRayError
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import write_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.settings.job import Engine, Precision
from btc_ray.storage import Place
from btc_ray.workers.memory import free_memory

ENGINES: tuple[tuple[Engine, tuple[Precision, ...]], ...] = (
    ("openvino", ("fp32", "bf16", "int8")),
    ("torch", ("fp32", "bf16", "fp16")),
)
STORES = (("s3fs", "s3://", "s3"), ("gcsfs", "gs://", "gcs"), ("adlfs", "az://", "azure"))
SAMPLE, SIZE = 4, 224  # crops that an engine is timed with
LEAST_MEMORY, LEAST_DISK = 2 << 30, 1 << 30  # bytes below which jobs end for want of them


def engines() -> list[Check]:
    """Every engine and precision on this machine's best device: images per second of one call of 4 crops of 224 px."""
    import torch

    from btc_ray.model.network import build_network

    torch.manual_seed(0)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder) / "model"
        classes = ("glioma", "meningioma", "notumor", "pituitary")
        state = build_network(len(classes)).state_dict()
        write_bundle(place, state=state, classes=classes, preprocess=Preprocess(size=SIZE), training={}, data={}, metrics={})
        for engine, precisions in ENGINES:
            found += [_engine(place, engine, precision) for precision in precisions]
    if not any(check.state == "ok" and not check.name.endswith("int8") for check in found):  # int8 is not tried
        found = [replace(check, needed=True) for check in found]
    return found


def _engine(place: Place, engine: Engine, precision: Precision) -> Check:
    check = partial(Check, subject="Engines", name=f"{engine} {precision}")
    try:
        if precision == "int8" and find_spec("openvino") is not None:  # a form in 8 bits belongs to a trained bundle
            choose(engine=engine, precision=precision)
            return check(state="ok", detail="this CPU has the instructions; a bundle has to have the form")
        choice = choose(engine=engine, precision=precision)
        return check(state="ok", detail=f"{_rate(place, choice):,.0f} images/s on {choice.device}, {SIZE} px")
    except BtcRayError as error:
        return check(state="missing", detail=str(error))
    except Exception as error:  # noqa: BLE001 - a library or driver that fails is what is looked for
        return check(state="broken", detail=f"{type(error).__name__}: {error}", advice="reinstall it or its driver")


def _rate(place: Place, choice: Choice) -> float:
    engine = open_engine(place, choice)
    pixels = np.random.default_rng(0).integers(0, 256, (SAMPLE, SIZE, SIZE), np.uint8)
    probabilities = engine.probabilities(pixels)
    if not np.isfinite(probabilities).all():
        raise ArithmeticError("probabilities that are no numbers")
    began = time.perf_counter()
    engine.probabilities(pixels)
    return SAMPLE / (time.perf_counter() - began)


def gpus() -> list[Check]:
    """CUDA or Metal as torch sees them."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return [Check(subject="GPU", name=name, state="ok") for name in names]
    if torch.backends.mps.is_available():
        return [Check(subject="GPU", name="Apple GPU (mps)", state="ok")]
    return [Check(subject="GPU", name="GPU", state="missing", detail="torch sees none; jobs compute on the CPU")]


def ray(session: Callable[[], AbstractContextManager[None]] | None) -> list[Check]:
    """That Ray is installed; with a `session` also that it starts, or answers, and runs a task."""
    check = partial(Check, subject="Ray", name=f"ray {version('ray')}")
    if session is None:
        return [check(state="ok", detail="installed; --start-ray tries it")]
    began = time.monotonic()
    try:
        with session():
            import ray

            cpus = ray.cluster_resources().get("CPU", 0)
            ray.get(ray.remote(lambda: None).remote(), timeout=120)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting
        return [check(state="broken", detail=f"{type(error).__name__}: {error}", needed=True)]
    return [check(state="ok", detail=f"{cpus:.0f} CPUs, a task was run, {time.monotonic() - began:.0f} s")]


def stores() -> list[Check]:
    """The libraries of object stores."""
    found = []
    for package, scheme, extra in STORES:
        try:
            found.append(Check(subject="Object stores", name=scheme, state="ok", detail=f"{package} {version(package)}"))
        except PackageNotFoundError:
            advice = f"pip install 'btc-ray[{extra}]'"
            found.append(Check(subject="Object stores", name=scheme, state="missing", detail=f"no {package}", advice=advice))
    return found


def initial_weights(weights: str, options: dict[str, str]) -> list[Check]:
    """Whether retraining finds what it begins with, without fetching it."""
    check = partial(Check, subject="Initial weights", name=weights)
    if weights == "none":
        return [check(state="ok", detail="random")]
    if weights != "imagenet":
        place = Place(weights, options)
        there = place.exists()
        return [check(state="ok" if there else "missing", detail="" if there else "there is no such file")]
    from torchvision.models.resnet import ResNet18_Weights

    from btc_ray.model.weights import imagenet_file

    file = imagenet_file()
    if file.exists():
        return [check(state="ok", detail=str(file))]
    advice = f"retrain fetches {ResNet18_Weights.IMAGENET1K_V1.url}; without a network put that file at {file}"
    return [check(state="missing", detail="not on this machine", advice=advice)]


def room(output: str) -> list[Check]:
    """Free memory, within the limit of a container, and free disk."""
    free, limit = free_memory()
    within = "" if limit is None else f" of the container's {limit / 2**30:.1f} GB"
    enough = free >= LEAST_MEMORY
    found = [
        Check(
            subject="Room",
            name="memory",
            state="ok" if enough else "broken",
            detail=f"{free / 2**30:.1f} GB free{within}",
            advice="" if enough else "a job needs some 2 GB",
            needed=True,
        )
    ]
    folders = {"temporary files": tempfile.gettempdir()}
    if storage.is_local(output):
        folders["--output"] = storage.local_path(output)
    for name, folder in folders.items():
        there = next((path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists()), Path("/"))
        left = shutil.disk_usage(there).free
        check = partial(Check, subject="Room", name=f"disk, {name}", detail=f"{left / 2**30:.1f} GB free at {there.absolute()}")
        if left >= LEAST_DISK:
            found.append(check(state="ok", needed=True))
        else:
            found.append(check(state="broken", advice="make room", needed=True))
    return found
