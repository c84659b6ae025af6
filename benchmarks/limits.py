"""What this machine can do at most, each part alone on all cores: `python -m benchmarks.limits --images FOLDER --model BUNDLE`.

Decoding and cropping in one process a core, the bare model in one thread a core, and what follows where both share the cores: an image
costs 1/a seconds of the machine here and 1/b there, so at most 1/(1/a + 1/b) images/s come out. Reading files, hashing and Parquet
are in neither part. The last line is JSON, for benchmarks.peers.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import cv2
import numpy as np

from benchmarks.inputs import images_below
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus

SAMPLE, SECONDS, BATCH = 200, 2.0, 8
CALLS = 8  # a thread, before all wait for the slowest


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Images/s: decoding and cropping on all cores, on one core, and on one core with the data set author's crop; the bare model on
    all cores by `engine precision`."""

    cropping: float
    serial: float
    author: float
    model: dict[str, float]

    def bound(self, engine: str) -> float:
        """Images/s of cropping and model on the same cores."""
        return 1 / (1 / self.cropping + 1 / self.model[engine])


def engines(bundle: Bundle | None = None) -> list[Choice]:
    """Every engine and precision that this CPU has instructions for; int8 where the bundle's record allows it."""
    found = []
    for engine in ("torch", "openvino"):
        if engine == "openvino" and find_spec("openvino") is None:
            continue
        fastest = choose(engine=engine, device="cpu")  # type: ignore[arg-type]
        found += [replace(fastest, precision="fp32"), *([fastest] if fastest.precision != "fp32" else [])]
    return list(dict.fromkeys([*found, choose(device="cpu", bundle=bundle)]))


def name(choice: Choice) -> str:
    """`openvino bf16`"""
    return f"{choice.engine} {choice.precision}"


def measure(images: Sequence[Path], model: str, *, seconds: float = SECONDS) -> Limits:
    """Each part for so many seconds, one after the other."""
    preprocess = Preprocess.from_dict(read_bundle(Place(model)).preprocess)
    contents = [path.read_bytes() for path in images[:: max(len(images) // SAMPLE, 1)][:SAMPLE]]
    cores = available_cpus()
    return Limits(
        cropping=_cropping(contents, preprocess, seconds, cores),
        serial=_cropping(contents, preprocess, seconds, 1),
        author=_cropping(contents, replace(preprocess, crop="kaggle"), seconds, 1),
        model={
            name(choice): _model(contents, preprocess, model, choice, seconds, cores)
            for choice in engines(read_bundle(Place(model)))
        },
    )


def _cropping(contents: Sequence[bytes], preprocess: Preprocess, seconds: float, processes: int) -> float:
    context = get_context("spawn")
    with context.Pool(processes, _begin, (context.Barrier(processes), contents, preprocess, seconds)) as pool:
        return sum(pool.map(_crop, range(processes), chunksize=1))


def _begin(barrier: Barrier, contents: Sequence[bytes], preprocess: Preprocess, seconds: float) -> None:
    global _given
    cv2.setNumThreads(1)
    _given = barrier, contents, preprocess, seconds


_given: tuple[Barrier, Sequence[bytes], Preprocess, float]  # of a worker process


def _crop(_: int) -> float:
    barrier, contents, preprocess, seconds = _given
    barrier.wait()
    return rate(lambda number: prepare(contents[number % len(contents)], preprocess), seconds)


def rate(work: Callable[[int], object], seconds: float) -> float:
    """Calls a second, each given its number."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work(done)
        done += 1
    return done / (time.perf_counter() - began)


def _model(contents: Sequence[bytes], preprocess: Preprocess, model: str, choice: Choice, seconds: float, threads: int) -> float:
    engine = open_engine(Place(model), choice, threads=1, calls=threads)
    prepared = (prepare(content, preprocess).pixels for content in contents)
    crops = np.stack([pixels for pixels in prepared if pixels is not None])
    size = min(BATCH, len(crops))
    batches = [crops[start : start + size] for start in range(0, len(crops) - size + 1, size)]
    together = CALLS * threads
    with ThreadPoolExecutor(threads) as pool:

        def several(number: int) -> None:  # all crops in turn: int8 computes some of them again
            list(pool.map(engine.answers, [batches[(number * together + place) % len(batches)] for place in range(together)]))

        several(0)  # what is compiled and allocated at the first call
        return together * size * rate(several, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    chosen = parser.parse_args()
    limits = measure(images_below(chosen.images), chosen.model, seconds=chosen.seconds)
    print(f"{available_cpus()} cores; decoding and cropping {limits.cropping:,.0f} images/s, {limits.serial:,.0f} on one of them")
    for engine, rate in limits.model.items():
        print(f"{engine:<14} bare {rate:8,.0f} images/s, with cropping at most {limits.bound(engine):8,.0f}")
    print(json.dumps(asdict(limits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
