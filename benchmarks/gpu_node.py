"""What binds a node with a GPU: `python -m benchmarks.gpu_node --images FOLDER [--model BUNDLE]`.

One core decodes and crops so many images/s, one thread turns the model's features into rows: both are measured here. Without a GPU the
GPUs' figures are published ones of ResNet-50, scaled to ResNet18 by the operations that torchvision states and to the bundle's image
size by its pixels; with one, its own is measured too, one and two batches at a time. Without BUNDLE the model is the random one of 224 px
of the other benchmarks.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from benchmarks.__main__ import processor
from benchmarks.inputs import images_below, write_model
from benchmarks.limits import rate
from btc_ray.images.batch import pixels_of, prepare_batch
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Engine
from btc_ray.model.reference import Answers
from btc_ray.scoring.scorer import Predictor
from btc_ray.storage import Place

PUBLISHED = {  # images/s of ResNet-50 v1.5 in mixed precision at batch 256, NVIDIA DeepLearningExamples, container 21.03
    "T4": (1198.0, "inference"),
    "V100 16 GB": (3382.0, "inference"),
    "A100": (3382.0 * 2470 / 1200, "V100 inference × 2,470 / 1,200, A100 to V100 in training"),
}
PIXELS = 224 * 224  # of an image, in what is published
BATCH, SECONDS = 256, 3.0


class _FeaturesAtHand:
    """An engine that has computed already: what is left is its processor's share, head, distance and energy."""

    def __init__(self, engine: Engine, features: np.ndarray) -> None:
        self._head, self._features = engine._head, features

    def answers(self, pixels: np.ndarray) -> Answers:
        return self._head.answers(self._features[: len(pixels)])


def of_one_core(contents: Sequence[bytes], bundle: Bundle, engine: Engine) -> tuple[pa.Table, float, float]:
    """What a model is given of `contents`, images/s decoded and cropped, and images/s whose rows are made."""
    cv2.setNumThreads(1)
    rows = [{"row_id": number, "uri": str(number), "problem_status": None, "problem": None} for number in range(len(contents))]
    preprocess = Preprocess.from_dict(bundle.preprocess)
    prepared = prepare_batch(rows, contents, preprocess)
    pixels = pixels_of(prepared)
    predict = Predictor(bundle, _FeaturesAtHand(engine, engine._features(pixels)))  # type: ignore[arg-type]
    cropping = len(rows) * rate(lambda _: prepare_batch(rows, contents, preprocess), SECONDS)
    return prepared, cropping, len(rows) * rate(lambda _: predict(prepared), SECONDS)


def of_the_gpu(model: str, pixels: np.ndarray, calls: int) -> float:
    """Images/s of `calls` batches at a time on the GPU at hand."""
    engine = open_engine(Place(model), choose(engine="torch", device="cuda"), threads=1, calls=calls, batch=len(pixels))
    some = [pixels] * 4 * calls
    with ThreadPoolExecutor(calls) as pool:
        list(pool.map(engine.answers, some))  # a first time, which may allocate
        return len(some) * len(pixels) * rate(lambda _: list(pool.map(engine.answers, some)), SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        report(images_below(chosen.images), chosen.model or str(write_model(Path(place) / "model")))
    return 0


def report(paths: Sequence[Path], model: str) -> None:
    import torch
    from torchvision.models import ResNet18_Weights, ResNet50_Weights

    bundle = read_bundle(Place(model))
    contents = [path.read_bytes() for path in (*paths, *paths * (BATCH // len(paths)))[:: max(len(paths) // BATCH, 1)][:BATCH]]
    engine = open_engine(Place(model), choose(device="cpu", precision="fp32"), threads=1)
    prepared, cropping, rows = of_one_core(contents, bundle, engine)
    size = Preprocess.from_dict(bundle.preprocess).size
    kinds = ResNet50_Weights.IMAGENET1K_V1.meta["_ops"], ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]
    lighter = kinds[0] / kinds[1] * PIXELS / size**2
    print(
        f"{processor()}: one core decodes and crops {cropping:,.0f} images/s to {size} px; one thread makes {rows:,.0f} rows/s.\n"
        f"ResNet18 at {size} px has {1 / lighter:.2f} of the operations of ResNet-50 at 224 px.\n"
    )
    print(
        f"| GPU | ResNet-50, published | source | ResNet18 at {size} px | cores to feed it | images/s with 8 cores | bound by |"
    )
    print("|---|---|---|---|---|---|---|")
    found = [(name, f"{speed:,.0f}", source, speed * lighter) for name, (speed, source) in PUBLISHED.items()]
    if torch.cuda.is_available():
        pixels = np.ascontiguousarray(pixels_of(prepared))
        for calls in (1, 2):
            speed = of_the_gpu(model, pixels, calls)
            found.append((torch.cuda.get_device_name(), "", f"measured here, {calls} at a time", speed))
    for name, published, source, speed in found:
        eight = min(speed, 8 * cropping)
        bound = "CPU" if eight < speed else "GPU"
        print(f"| {name} | {published} | {source} | {speed:,.0f} | {math.ceil(speed / cropping)} | {eight:,.0f} | {bound} |")


if __name__ == "__main__":
    sys.exit(main())
