"""Daft around our own engine: Daft lists, reads, batches and writes; decoding, cropping and the model are those of `btc-ray score`."""

import daft
import numpy as np
from daft import DataType, col

from benchmarks.ways.given import arguments
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.model.bundle import read_bundle
from btc_ray.model.engines.choose import open_engine
from btc_ray.scoring.local import default_batch_size
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus


# A process a core: in threads of Daft, OpenVINO ends with a segmentation fault.
@daft.cls(use_process=True, max_concurrency=available_cpus())
class Scorer:
    def __init__(self, model: str) -> None:
        bundle = read_bundle(Place(model))
        self.preprocess, self.classes = Preprocess.from_dict(bundle.preprocess), bundle.classes
        self.engine = open_engine(Place(model), threads=1)

    @daft.method.batch(return_dtype=DataType.string(), batch_size=default_batch_size("cpu"))
    def label(self, contents: daft.Series) -> list[str | None]:
        prepared = [prepare(content, self.preprocess).pixels for content in contents.to_pylist()]
        good = [pixels for pixels in prepared if pixels is not None]
        labels = iter(self.engine.answers(np.stack(good)).probabilities.argmax(axis=1) if good else [])
        return [None if pixels is None else self.classes[next(labels)] for pixels in prepared]


def score(images: str, model: str, output: str) -> None:
    frame = daft.from_glob_path(f"{images}/*").select("path")
    frame = frame.with_column("label", Scorer(model).label(col("path").download()))
    frame.write_parquet(output)


if __name__ == "__main__":
    chosen, _ = arguments(__doc__)
    score(chosen.images, chosen.model, chosen.output)
