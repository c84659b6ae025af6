"""Ray Data as its guides to images and to offline batch inference write it: read_images → map → map_batches → write_parquet.

https://docs.ray.io/en/latest/data/working-with-images.html and …/data/batch_inference.html: torchvision's transforms row by row,
float32 images of three channels in the object store, an eager fp32 model in a pool of actors.

Where there are only CPUs, the guides leave the size of the pool open. All cores would hang, for the actors leave none to read with
(Ray's issue 44687), so the pool is one smaller. `--overcommit` is what somebody finds who tunes it: a pool of all cores, and Ray
told of one more than there are.
"""

import sys
from typing import Any

import ray
import torch

from benchmarks.ways.given import BATCH, arguments, eager_network, transform
from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus


class ImageClassifier:
    def __init__(self, model: str) -> None:
        self.model, bundle = eager_network(model)
        self.classes = bundle.classes

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(batch["image"]))
        return {"path": batch["path"], "label": [self.classes[best] for best in outputs.argmax(dim=1)]}


def score(images: str, model: str, output: str, *, overcommit: bool = False) -> None:
    cores = available_cpus()
    ray.init(address="local", num_cpus=max(cores + overcommit, 2))  # local: not one that others run on this machine
    preprocess = transform(read_bundle(Place(model)))

    def preprocess_image(row: dict[str, Any]) -> dict[str, Any]:
        row["image"] = preprocess(row["image"])
        return row

    (
        ray.data.read_images(images, mode="RGB", include_paths=True)
        .map(preprocess_image)
        .map_batches(
            ImageClassifier,
            fn_constructor_args=[model],
            compute=ray.data.ActorPoolStrategy(size=cores if overcommit else max(cores - 1, 1)),
            batch_size=BATCH,
        )
        .write_parquet(output)
    )


if __name__ == "__main__":
    chosen, more = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output, overcommit="--overcommit" in more)
    sys.exit(0)
