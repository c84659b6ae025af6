"""How long a run will take: a few of its images scored here, timed."""

import time
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from btc_ray.archive.entries import Entry
from btc_ray.archive.manifest import SCHEMA
from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.choose import open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.scoring.scorer import Scorer
from btc_ray.storage import Place


def images_per_second(
    entries: Sequence[Entry],
    *,
    bundle: Bundle,
    model: Place,
    choice: Choice,
) -> float:
    """Images per second of one worker on this machine, reading included, measured on `entries` (at least one) after a warm-up."""
    engine = open_engine(model, choice, bundle=bundle, threads=1, batch=len(entries))
    scorer = Scorer(bundle, engine, model.options)
    rows = pa.Table.from_pylist(
        [
            {"row_id": number, **asdict(entry), **(asdict(entry.slice) if entry.slice else {})}
            for number, entry in enumerate(entries)
        ],
        schema=SCHEMA,
    )
    scorer(rows.slice(0, min(4, len(rows))))
    began = time.perf_counter()
    scorer(rows)
    return len(rows) / (time.perf_counter() - began)
