"""What knowing costs the driver: runs of before with many rows, loaded, and as many entries of a listing looked up.

    python -m benchmarks.known [--rows 10000000] [--nights 10]

The manifests and scores are written directly, with the columns that are read; a tenth of the listing is new. No image is read or scored.
Prints seconds of CPU, so that a busy machine counts less, and the driver's memory.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pyarrow as pa

from btc_ray.archive.entries import Entry
from btc_ray.archive.manifest import ROWS_PER_PART
from btc_ray.scoring.earlier import find_runs
from btc_ray.scoring.finish import ROWS_PER_FILE
from btc_ray.scoring.known import KNOWN_SCHEMA, open_known
from btc_ray.scoring.state import Fingerprint, Listed, RunState
from btc_ray.storage import Place
from btc_ray.storage.tables import table_file


def entry(number: int) -> Entry:
    """One image of a listing as an object store gives it."""
    version = f"51234-{md5(str(number).encode(), usedforsecurity=False).hexdigest()}"
    return Entry(
        uri=f"s3://bucket/archive/site-3/patient-{number // 40:07d}/axial_{number % 40:03d}.jpg", size=51234, version=version
    )


def write_night(run: Place, first: int, rows: int) -> None:
    """A complete run of `rows` images that are all ok."""
    for number, start in enumerate(range(0, rows, ROWS_PER_PART)):
        here = range(start, min(start + ROWS_PER_PART, rows))
        entries = [entry(first + row) for row in here]
        columns = {
            "row_id": pa.array(here, pa.int64()),
            "uri": [one.uri for one in entries],
            "offset": pa.nulls(len(here), pa.int64()),
            "frame": pa.nulls(len(here), pa.int32()),
            "version": [one.version for one in entries],
        }
        (run / f"manifest/part-{number:05d}.parquet").write_table(pa.table(columns))
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        here = range(start, min(start + ROWS_PER_FILE, rows))
        (run / f"scores/part-{number:05d}.parquet").write_table(
            pa.table({"row_id": pa.array(here, pa.int64()), "status": ["ok"] * len(here)})
        )
    fingerprint = Fingerprint(inputs=[], model_id="m", preprocess_id="p")
    RunState(fingerprint=fingerprint, complete=True, manifest=Listed(rows=rows), finished=run.name).write(run)


def listing(rows: int) -> Iterator[Entry]:
    """The archive tonight: everything of before but a tenth, which was replaced."""
    return (entry(number) for number in range(rows // 10, rows + rows // 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--nights", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        each = chosen.rows // chosen.nights
        for night in range(chosen.nights):
            write_night(Place(f"{name}/2026-01-{night:02d}"), night * each, each)
        before = peak_mb()
        began = time.process_time()
        known = open_known(find_runs([f"{name}/*"], {}, flag="--known"), by="listing")
        loaded = time.process_time() - began
        began = time.process_time()
        for _ in listing(chosen.rows):
            pass
        made = time.process_time() - began
        began = time.process_time()
        with table_file(Place(str(Path(name) / "known.parquet")), KNOWN_SCHEMA) as write:
            new = sum(1 for _ in known.new(listing(chosen.rows), known=write))
        looked_up = time.process_time() - began - made
    assert (known.files, new) == (chosen.rows - chosen.rows // 10, chosen.rows // 10), (known.files, new)
    print(
        f"{chosen.rows:,} known rows of {chosen.nights} nights: loaded in {loaded:.1f} s of CPU; "
        f"{chosen.rows:,} entries looked up in {looked_up:.1f} s,"
    )
    print(
        f"{known.files:,} of them known; memory at most {peak_mb():,.0f} MB, {before:,.0f} MB of it before anything was loaded."
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
