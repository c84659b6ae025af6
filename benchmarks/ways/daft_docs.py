"""Daft as its guide to images writes it: paths → download → decode → resize → tensor → normalise → model → write_parquet.

https://docs.daft.ai, "Working with Images" (end-to-end image pipeline) and "Stateful Class UDFs": Daft decodes and resizes in Rust,
a function normalises row by row, a class that Daft opens once per worker holds the eager fp32 model and sees batches.
"""

from typing import Any

import daft
import numpy as np
import torch
from daft import DataType, col

from benchmarks.ways.given import BATCH, arguments, eager_network
from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place


@daft.cls
class ImageClassifier:
    def __init__(self, model: str) -> None:
        self.model, bundle = eager_network(model)
        self.classes = bundle.classes

    @daft.method.batch(return_dtype=DataType.string(), batch_size=BATCH)
    def classify(self, images: daft.Series) -> list[str]:
        batch = torch.from_numpy(np.stack(images.to_pylist()))
        with torch.inference_mode():
            outputs = self.model(batch)
        return [self.classes[best] for best in outputs.argmax(dim=1)]


def score(images: str, model: str, output: str) -> None:
    bundle = read_bundle(Place(model))
    size = bundle.preprocess["size"]
    mean, std = np.array(bundle.mean, np.float32), np.array(bundle.std, np.float32)

    @daft.func(return_dtype=DataType.tensor(DataType.float32()))
    def normalize_image(image: Any) -> Any:
        return ((image.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)

    frame = daft.from_glob_path(f"{images}/*").select("path")
    frame = frame.with_column("image", col("path").download().decode_image(mode="RGB").resize(size, size))
    frame = frame.with_column("tensor", normalize_image(col("image").image_to_tensor()))
    frame = frame.with_column("label", ImageClassifier(model).classify(col("tensor")))
    frame.select("path", "label").write_parquet(output)


if __name__ == "__main__":
    chosen, _ = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output)
