"""Ray Data as its guides write it for formats that it cannot read: read_binary_files → map with pydicom → map_batches → write_parquet.

https://docs.ray.io/en/latest/data/loading-data.html (binary files) and …/data/batch_inference.html; for the rest as `ray_docs`. Grey is
scaled from the darkest to the brightest pixel of a slice, the slice is resized as a whole.
"""

import io
from typing import Any

import numpy as np
import pydicom
import ray

from benchmarks.ways.given import BATCH, arguments, transform
from benchmarks.ways.ray_docs import ImageClassifier
from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus


def score(images: str, model: str, output: str) -> None:
    cores = available_cpus()
    ray.init(address="local", num_cpus=max(cores, 2))
    preprocess = transform(read_bundle(Place(model)))

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        pixels = pydicom.dcmread(io.BytesIO(row["bytes"])).pixel_array.astype(np.float32)
        grey = 255 * (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1.0)
        return {"path": row["path"], "image": preprocess(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)).numpy()}

    (
        ray.data.read_binary_files(images, include_paths=True)
        .map(decode)
        .map_batches(
            ImageClassifier,
            fn_constructor_args=[model],
            compute=ray.data.ActorPoolStrategy(size=max(cores - 1, 1)),
            batch_size=BATCH,
        )
        .write_parquet(output)
    )


if __name__ == "__main__":
    chosen, _ = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output)
