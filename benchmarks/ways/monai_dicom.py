"""A MONAI DataLoader as its tutorials write it: LoadImage with the reader of pydicom, one worker a core, an eager fp32 model.

https://docs.monai.io/en/stable/transforms.html#loadimage and the tutorials of 2D classification. Grey is scaled from the darkest to the
brightest pixel of a slice, the slice is resized as a whole.
"""

from pathlib import Path

import pandas as pd
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, LoadImage, NormalizeIntensity, RepeatChannel, Resize, ScaleIntensity

from benchmarks.ways.given import BATCH, arguments, eager_network
from btc_ray.workers.session import available_cpus


def score(images: str, model: str, output: str) -> None:
    network, bundle = eager_network(model)
    size = bundle.preprocess["size"]
    preprocess = Compose(
        [
            LoadImage(reader="PydicomReader", image_only=True, ensure_channel_first=True),
            ScaleIntensity(),
            Resize((size, size)),
            RepeatChannel(3),
            NormalizeIntensity(subtrahend=bundle.mean, divisor=bundle.std, channel_wise=True),
        ]
    )
    paths = sorted(str(path) for path in Path(images).iterdir())
    labels: list[str] = []
    with torch.inference_mode():
        for batch in DataLoader(Dataset(paths, preprocess), batch_size=BATCH, num_workers=available_cpus()):
            labels += [bundle.classes[best] for best in network(batch.as_tensor()).argmax(dim=1)]
    Path(output).mkdir(parents=True)
    pd.DataFrame({"path": paths, "label": labels}).to_parquet(Path(output) / "labels.parquet")


if __name__ == "__main__":
    chosen, _ = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output)
