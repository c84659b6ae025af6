"""Plain PyTorch: a Dataset, a DataLoader with one worker a core, an eager fp32 model, pandas to Parquet."""

from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.ways.given import BATCH, arguments, eager_network, transform
from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus


class Images(Dataset[tuple[str, Tensor]]):
    def __init__(self, folder: str, model: str) -> None:
        self.paths = sorted(str(path) for path in Path(folder).iterdir())
        self.preprocess = transform(read_bundle(Place(model)))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[str, Tensor]:
        with Image.open(self.paths[number]) as image:
            return self.paths[number], self.preprocess(image.convert("RGB"))


def score(images: str, model: str, output: str) -> None:
    network, bundle = eager_network(model)
    paths: list[str] = []
    labels: list[str] = []
    with torch.inference_mode():
        for names, batch in DataLoader(Images(images, model), batch_size=BATCH, num_workers=available_cpus()):
            paths += names
            labels += [bundle.classes[best] for best in network(batch).argmax(dim=1)]
    Path(output).mkdir(parents=True)
    pd.DataFrame({"path": paths, "label": labels}).to_parquet(Path(output) / "labels.parquet")


if __name__ == "__main__":
    chosen, _ = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output)
