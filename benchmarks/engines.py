"""The bare model by each engine and precision: `python -m benchmarks.engines --model BUNDLE --data DATA`.

Agreement with torch in fp32 on the test images of DATA (Kaggle layout), and images/s: all engines in turn, round after round, so that
whatever else the machine does falls on all of them. torch.compile and ONNX Runtime are measured where they can be.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.__main__ import processor
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.model.bundle import Bundle, library_versions, read_arrays, read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import EngineError
from btc_ray.model.engines.folded import folded_network
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus

Call = Callable[[np.ndarray], object]
REFERENCE = "torch fp32"
BATCHES, SECONDS, SHOWN = (1, 4, 8, 16, 32), 1.0, 256


def ours(uri: str, calls: int) -> Iterator[tuple[str, Call]]:
    """The engines of `score`, those that this machine and this bundle have."""
    bundle = read_bundle(Place(uri))
    for engine, precisions in (("torch", ("fp32", "bf16")), ("openvino", ("fp32", "bf16", "int8"))):
        for precision in precisions:
            try:
                choice = choose(engine=engine, device="cpu", precision=precision, bundle=bundle)  # type: ignore[arg-type]
            except EngineError as error:
                print(f"{engine} {precision}: {error}")
                continue
            yield f"{engine} {precision}", open_engine(Place(uri), choice, threads=1, calls=calls).probabilities


def others(uri: str, bundle: Bundle, *, batch: int, size: int) -> Iterator[tuple[str, Call]]:
    """What else could compute: features alone, at one batch size."""
    state = {name: torch.from_numpy(array) for name, array in read_arrays(Place(uri), bundle).items()}
    network = folded_network(state, mean=bundle.mean, std=bundle.std, device="cpu", dtype=torch.bfloat16)
    example = torch.zeros(batch, size, size, dtype=torch.uint8)
    network.features(example)  # the part of the stem that no grey level changes is kept from here on
    try:
        compiled = torch.compile(network.features, options={"freezing": True})
        with torch.inference_mode():
            began = time.perf_counter()
            compiled(example)
        print(f"torch.compile bf16: the first call took {time.perf_counter() - began:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever it lacks, a compiler for one, is the result
        print(f"torch.compile: not to be had here: {type(error).__name__}")
    else:

        def call(pixels: np.ndarray) -> object:
            with torch.inference_mode():
                return compiled(torch.from_numpy(pixels))

        yield "torch.compile bf16", call
    if find_spec("onnxruntime") and find_spec("onnx"):
        yield "ONNX Runtime fp32", _onnx(state, bundle, size)


def _onnx(state: dict[str, torch.Tensor], bundle: Bundle, size: int) -> Call:
    import io

    import onnxruntime

    from btc_ray.model.network import build_network

    network = build_network(len(bundle.classes)).eval()
    network.load_state_dict(state)
    file = io.BytesIO()
    torch.onnx.export(
        network, (torch.zeros(1, 3, size, size),), file, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (bundle.mean, bundle.std))
    return lambda pixels: session.run(None, {"x": (pixels[:, None] / np.float32(255) - mean) / std})


def agreement(uri: str, crops: np.ndarray) -> None:
    """Labels and probabilities beside torch in fp32."""
    found = {name: np.concatenate([call(crops[i : i + 8]) for i in range(0, len(crops), 8)]) for name, call in ours(uri, 1)}  # type: ignore[misc]
    exact = found.pop(REFERENCE)
    print(f"\nAgreement with {REFERENCE} on {len(crops):,} images of {crops.shape[1]} px\n")
    print("| engine | labels that agree | largest difference of a probability | mean of an image's largest |\n|---|---|---|---|")
    for name, probabilities in found.items():
        labels = (probabilities.argmax(axis=1) == exact.argmax(axis=1)).mean()
        differences = np.abs(probabilities - exact).max(axis=1)
        print(f"| {name} | {labels:.2%} | {differences.max():.4f} | {differences.mean():.5f} |")


def speed(calls: dict[str, Call], crops: np.ndarray, *, threads: int, batch: int, rounds: int) -> None:
    """Images/s of `threads` calls at a time, and processor seconds, which other people's work disturbs less."""
    batches = [crops[start : start + batch] for start in range(0, len(crops) - batch + 1, batch)]
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    with ThreadPoolExecutor(threads) as pool:
        for number in range(rounds + 1):
            for name, call in calls.items():
                counted, clock, cpu = 0, time.perf_counter(), time.process_time()
                while counted == 0 or time.perf_counter() - clock < SECONDS:
                    first = counted // batch
                    some = [batches[(first + place) % len(batches)] for place in range(2 * threads)]
                    list(pool.map(call, some))
                    counted += 2 * threads * batch
                if number:  # the first round warms up
                    rates[name].append((counted / (time.perf_counter() - clock), counted / (time.process_time() - cpu)))
    for name, found in rates.items():
        by_clock, by_cpu = ([rate[column] for rate in found] for column in (0, 1))
        print(
            f"| {name} | {threads} | {batch} | {statistics.median(by_clock):.0f} ({min(by_clock):.0f} to {max(by_clock):.0f}) "
            f"| {statistics.median(by_cpu):.0f} ({min(by_cpu):.0f} to {max(by_cpu):.0f}) |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", help="without it agreement is not measured, and the speed is that on noise")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, help="side of the images whose speed is measured, in pixels; default: the model's")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bundle = read_bundle(Place(chosen.model))
    versions = library_versions() | ({"onnxruntime": __import__("onnxruntime").__version__} if find_spec("onnxruntime") else {})
    print(f"{processor()}, {available_cpus()} cores; {', '.join(f'{name} {number}' for name, number in versions.items())}")
    preprocess = Preprocess.from_dict(bundle.preprocess)
    size = chosen.size or preprocess.size
    if chosen.data:
        files = sorted(path for path in (Path(chosen.data) / "Testing").rglob("*") if path.is_file())
        crops = crops_of(files, preprocess)
        agreement(chosen.model, crops)
        # Some of each class: how much int8 computes again depends on what it is shown.
        crops = crops_of(files[:: max(len(files) // SHOWN, 1)], replace(preprocess, size=size))
    else:
        crops = np.random.default_rng(0).integers(0, 256, (SHOWN, size, size), dtype=np.uint8)
    print(f"\nImages/s of {size} px: median (least to most) of {chosen.rounds} rounds of {SECONDS:g} s")
    print("\n| engine | calls at a time | batch | images/s | images per second of processor time |\n|---|---|---|---|---|")
    alone = dict(ours(chosen.model, 1))
    for batch in BATCHES:
        beside = dict(others(chosen.model, bundle, batch=8, size=size)) if batch == 8 else {}
        speed(alone | beside, crops, threads=1, batch=batch, rounds=chosen.rounds)
    if available_cpus() > 1:
        together = dict(ours(chosen.model, available_cpus()))
        speed(together, crops, threads=available_cpus(), batch=8, rounds=chosen.rounds)


def crops_of(files: list[Path], preprocess: Preprocess) -> np.ndarray:
    """uint8 (N, size, size) of the files that can be read, in their order."""
    prepared = [prepare(path.read_bytes(), preprocess).pixels for path in files]
    return np.stack([pixels for pixels in prepared if pixels is not None])


if __name__ == "__main__":
    main()
