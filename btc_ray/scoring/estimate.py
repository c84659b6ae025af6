"""How long a run will take: a few of its images scored here, timed."""

import random
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.archive.manifest import SCHEMA
from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.choose import open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.scoring.scorer import Scorer
from btc_ray.storage import Place


def sample_of(manifest: Place, most: int) -> pa.Table:
    """At most `most` rows of a manifest that are not known to fail, drawn alike from all of it, in their order."""
    chance, met = random.Random(0), 0
    sample: list[pa.RecordBatch] = []
    for part in manifest.files(".parquet"):
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches():
                good = batch.filter(pc.is_null(batch["problem_status"]))
                for place in range(len(good)):  # of a list of unknown length (Vitter's algorithm R)
                    met += 1
                    if len(sample) < most:
                        sample.append(good.slice(place, 1))
                    elif (at := chance.randrange(met)) < most:
                        sample[at] = good.slice(place, 1)
    return pa.Table.from_batches(sample, schema=SCHEMA).combine_chunks().sort_by("row_id")


def images_per_second(rows: pa.Table, *, bundle: Bundle, model: Place, choice: Choice) -> float:
    """Images per second of one worker on this machine, reading included, measured on manifest rows (at least one) after a warm-up."""
    engine = open_engine(model, choice, bundle=bundle, threads=1, batch=len(rows))
    scorer = Scorer(bundle, engine, model.options)
    scorer(rows.slice(0, min(4, len(rows))))
    began = time.perf_counter()
    scorer(rows)
    return len(rows) / (time.perf_counter() - began)
