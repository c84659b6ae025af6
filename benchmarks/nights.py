"""A year of nights over one archive: what listing, knowing and reading all of its runs cost.

    python -m benchmarks.nights [--nights 365] [--first 100000] [--each 1000]

Run folders are made directly, each a complete run of its own: the first night scores `--first` images, every later one `--each` new ones, a
tenth of which were scored before and changed. No image is read. Each question is asked by a process of its own, which prints its time of
the processor and its peak of memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.driver import peak_mb
from benchmarks.known import entry
from benchmarks.scale import CLASSES
from btc_ray.scoring.state import Counts, Fingerprint, Listed, RunState
from btc_ray.storage import Place

NEWEST = """SELECT label, count(*) FROM (SELECT *, parse_path(filename)[-3] AS night
    FROM read_parquet('{runs}/*/scores/*.parquet', filename = true, union_by_name = true)
    WHERE night IN (SELECT parse_path(filename)[-2]
        FROM read_json('{runs}/*/run.json', columns = {{complete: 'BOOLEAN'}}, filename = true) WHERE complete)
    QUALIFY row_number() OVER (PARTITION BY uri ORDER BY night DESC, row_id DESC) = 1) GROUP BY label"""


def write_night(run: Place, numbers: np.ndarray, night: int) -> None:
    """A complete run of the images that are called by `numbers`, in a version of this night."""
    random = np.random.default_rng(night)
    row_ids = pa.array(np.arange(len(numbers)))
    entries = [entry(number) for number in numbers.tolist()]
    uris = [one.uri for one in entries]
    manifest = {
        "row_id": row_ids,
        "uri": uris,
        "offset": pa.nulls(len(uris), pa.int64()),
        "frame": pa.nulls(len(uris), pa.int32()),
    }
    manifest["version"] = [f"{one.version}-{night}" for one in entries]
    (run / "manifest/part-00000.parquet").write_table(pa.table(manifest))
    probabilities = random.dirichlet(np.ones(len(CLASSES)), len(numbers)).astype(np.float32)
    scores = {
        "row_id": row_ids,
        "uri": uris,
        "status": ["ok"] * len(uris),
        "label": np.array(CLASSES)[probabilities.argmax(axis=1)],
        "confidence": probabilities.max(axis=1),
        **{f"prob_{name}": probabilities[:, number] for number, name in enumerate(CLASSES)},
        "content_sha256": [sha256(f"{uri} {night}".encode()).hexdigest() for uri in uris],
    }
    (run / "scores/part-00000.parquet").write_table(pa.table(scores))
    rows = len(numbers)
    RunState(
        fingerprint=Fingerprint(inputs=[], model_id="m", preprocess_id="p"),
        complete=True,
        manifest=Listed(rows=rows),
        counts=Counts(rows=rows, status={"ok": rows}),
        finished=run.name,
    ).write(run)


def questions(runs: str) -> dict[str, Callable[[], str]]:
    """What one asks of all runs, each with what came out."""

    def find() -> str:
        from btc_ray.scoring.earlier import find_runs

        return f"{len(find_runs([f'{runs}/*'], {}, flag='--runs').runs):,} runs"

    def know() -> str:
        from btc_ray.scoring.earlier import find_runs
        from btc_ray.scoring.known import open_known

        return f"{len(open_known(find_runs([f'{runs}/*'], {}, flag='--known'), by='listing').images):,} images"

    def tell() -> str:
        from btc_ray.commands.nights import COLUMNS, nights
        from btc_ray.scoring.earlier import find_runs
        from btc_ray.scoring.folder import RunFolder

        found = find_runs([f"{runs}/*"], {}, flag="--runs").runs
        scores = [RunFolder(run.place).score_batches(COLUMNS) for run in found]
        return f"{nights(scores, listed=RunFolder(found[-1].place).score_batches(['uri'])).images:,} images"

    def query() -> str:
        import duckdb

        duckdb.sql("SET threads = 2")
        return f"{sum(count for _, count in duckdb.sql(NEWEST.format(runs=runs)).fetchall()):,} images"

    return {"find the runs": find, "score --known": know, "info --runs": tell, "DuckDB, newest rows": query}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ask:
        runs, name = chosen.ask
        before, began = peak_mb(), time.process_time()
        answer = questions(runs)[name]()
        print(json.dumps({"answer": answer, "cpu": time.process_time() - began, "memory": peak_mb(), "before": before}))
        return 0
    with tempfile.TemporaryDirectory() as runs:
        images = chosen.first
        write_night(Place(f"{runs}/night-000"), np.arange(images), 0)
        for night in range(1, chosen.nights):
            again = chosen.each // 10
            changed = np.random.default_rng(night).choice(images, again, replace=False)
            numbers = np.concatenate([changed, np.arange(images, images + chosen.each - again)])
            write_night(Place(f"{runs}/night-{night:03d}"), numbers, night)
            images += chosen.each - again
        sizes = [file.stat().st_size for file in Path(runs).glob("*/scores/*.parquet")]
        print(f"{chosen.nights} nights, {images:,} images, {len(sizes):,} files of scores, {sum(sizes) / 1e6:,.0f} MB")
        print(f"{'':>22} {'CPU, s':>8} {'memory, MB':>11} {'before, MB':>11}")
        for name in questions(runs):
            command = [sys.executable, "-m", "benchmarks.nights", "--ask", runs, name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name:>22} {found['cpu']:>8.1f} {found['memory']:>11,.0f} {found['before']:>11,.0f}  {found['answer']}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
