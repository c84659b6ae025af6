"""Scoring in this process: threads that each read, crop and predict a batch of their own; no Ray."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.choose import open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.progress import Progress
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.scorer import Scorer
from btc_ray.storage import Place

THREADS_A_CORE = 2  # while one waits for a file, for the interpreter or for the other's batch, the core works for the other. Not
# before a GPU, whose batches of 256 would be twice as many in memory.
STAGE_EVERY_S = 20.0  # what a kill can cost


def score_here(
    folder: RunFolder,
    manifest: Sequence[Place],
    *,
    bundle: Bundle,
    model: Place,
    choice: Choice,
    batch_size: int | None,
    cpus: int,
    done: np.ndarray,
    progress: Progress,
) -> None:
    """Score the rows of the `manifest` parts that are not in `done` (sorted int64 row_ids) into `folder.staged_here`."""
    threads = cpus * (THREADS_A_CORE if choice.device == "cpu" else 1)
    batch_size = batch_size or default_batch_size(choice.device)
    engine = open_engine(model, choice, bundle=bundle, threads=1, calls=cpus, batch=batch_size)
    scorer = Scorer(bundle, engine, folder.place.options)
    batches = _batches(manifest, batch_size, done)
    waiting: list[pa.Table] = []
    staged_at = time.monotonic()
    try:
        for table in _in_order(scorer, batches, threads=threads):
            waiting.append(table)
            progress.advance(len(table), bad=len(table) - table["status"].to_pylist().count("ok"))
            if time.monotonic() - staged_at > STAGE_EVERY_S:
                ready, waiting, staged_at = waiting, [], time.monotonic()
                _stage(folder, ready)
    finally:  # Ctrl-C costs only what is under way
        if waiting:
            _stage(folder, waiting)


def default_batch_size(device: str) -> int:
    """8 on a CPU: as fast as any larger one, 25 MB of activations a thread, and small runs end together; 256 fills a GPU."""
    return 8 if device == "cpu" else 256


def _in_order(scorer: Scorer, batches: Iterator[pa.Table], *, threads: int) -> Iterator[pa.Table]:
    """Results in the order of the batches, at most two batches a thread under way."""
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[pa.Table]] = deque()
        for batch in batches:
            under_way.append(pool.submit(scorer, batch))
            if len(under_way) >= 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _batches(manifest: Sequence[Place], size: int, done: np.ndarray) -> Iterator[pa.Table]:
    for part in manifest:
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            for batch in file.iter_batches(batch_size=max(size, 4096)):
                table = pa.Table.from_batches([batch])
                if len(done):
                    table = table.filter(pa.array(~np.isin(np.asarray(table["row_id"]), done)))
                for start in range(0, len(table), size):
                    yield table.slice(start, size)


def _stage(folder: RunFolder, tables: Sequence[pa.Table]) -> None:
    folder.check()
    table = pa.concat_tables(tables)
    first: Mapping[str, int] = table.select(["row_id"]).slice(0, 1).to_pylist()[0]
    (folder.staged_here / f"part-{first['row_id']:012d}.parquet").write_table(table)
