"""What the driver of a large archive of DICOM holds: an index of --slices rows, its series, its manifest, the tables of series and exams.

    python -m benchmarks.dicom_index [--slices 1000000]

No file is there and none is read: the parts of the index are made directly, as a run that was cut off leaves them, with texts and UIDs of
the usual lengths, 50 slices a series, four series an exam, two exams a patient; one file in 20,000 is broken. From there on it is what
`btc-ray score` does: the index taken up, series grouped and selected, the manifest written, then series and exams from scores that are made
directly as well. Each step is a process of its own; what counts is its peak of memory, and its time of the processor.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.__main__ import processor
from btc_ray.archive.entries import SNIFF, Entry
from btc_ray.model.bundle import PREFIX
from btc_ray.phantoms.phantom import LABELS
from btc_ray.scoring.folder import RunFolder
from btc_ray.settings import Score
from btc_ray.storage import Place
from btc_ray.studies.candidates import FILES_A_PART
from btc_ray.studies.index import INDEX
from btc_ray.studies.overview import Studies
from btc_ray.studies.vocabulary import body_part, manufacturer
from btc_ray.workers.session import available_cpus

A_SERIES, SERIES_AN_EXAM, EXAMS_A_PATIENT = 50, 4, 2
BROKEN_EVERY = 20_000
SIZE = 526_000  # bytes of a file
MAKER, HEAD = manufacturer("SIEMENS"), body_part("HEAD")
ARRANGED = ("slice_index", "stack", "position_mm", "plane", "oblique_deg", "duplicate_of")
STEPS = ("nothing but the imports", "index, series and manifest", "series and exams from scores")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=1_000_000)
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step is not None:
        step(chosen.step, RunFolder(Place(str(chosen.home))), chosen.slices)
        return 0
    print(
        f"{processor()}, {available_cpus()} cores, load before {os.getloadavg()[0]:.1f}; {chosen.slices:,} slices\n", flush=True
    )
    print("| step | peak of memory, MB | seconds of the processor |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="index-") as name:
        write_index(RunFolder(Place(name)), chosen.slices)
        for number in range(len(STEPS)):
            command = [sys.executable, "-m", "benchmarks.dicom_index", "--slices", str(chosen.slices), "--home", name]
            subprocess.run([*command, "--step", str(number)], check=True)
    return 0


def step(number: int, folder: RunFolder, slices: int) -> None:
    """Run one, and print its row of the table."""
    from btc_ray.scoring import inputs
    from btc_ray.scoring.aggregate import exams_table, series_table

    began = time.process_time()
    if number == 1:
        settings = Score(model="none", input=("archive",), output=str(folder.place), pseudonym_key=str(folder.place / "key"))
        (folder.place / "key").write(b"a key of this benchmark alone")
        held: list[Studies] = []
        grouped = inputs.overview

        def kept(*given: Any, **named: Any) -> Studies:
            held.append(grouped(*given, **named))
            return held[0]

        with mock.patch.multiple(inputs, list_inputs=lambda *_, **__: entries(slices), overview=kept):
            found = inputs.list_images(settings, folder, cpus=1)
        assert found.summary.rows == slices
        print(in_memory(held[0]))
    elif number == 2:
        series = series_table(folder.series_known.read_table(), scores(folder), classes=LABELS, healthy="notumor")
        assert len(exams_table(series, classes=LABELS)) == -(-slices // (A_SERIES * SERIES_AN_EXAM))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"| {STEPS[number]} | {peak:,.0f} | {time.process_time() - began:,.0f} |", flush=True)


def in_memory(studies: Studies) -> str:
    """What stands in memory until the manifest is written, in bytes a slice."""
    index, grouped = studies.index, studies.grouped
    assert index is not None
    assert grouped is not None
    lists = [getattr(facts.arrangement, name) for facts in grouped.facts.values() for name in ARRANGED]
    places = sum(
        sys.getsizeof(values) + sum(sys.getsizeof(value) for value in values if isinstance(value, float)) for values in lists
    )
    plain = index.cast(INDEX).nbytes
    return (
        f"| of it, bytes a slice: the index {index.nbytes / len(index):,.0f} (with every text written out {plain / len(index):,.0f}), "
        f"frames {grouped.frames.nbytes / len(index):,.0f}, places as lists {places / len(index):,.0f} | | |"
    )


def uri(number: int) -> str:
    return f"/archives/hospital-of-somewhere/2026-03/DICOM/PA{number // 400:06d}/ST{number // 200:06d}/SE{number // 50:06d}/IM{number:07d}"


def entries(slices: int) -> Iterator[Entry]:
    """The listing of an archive of so many files."""
    for number in range(slices):
        yield Entry(uri=uri(number), size=SIZE, kind=SNIFF)


def write_index(folder: RunFolder, slices: int) -> None:
    """The parts of the index in the run's private folder."""
    for first in range(0, slices, FILES_A_PART):
        numbers = range(first, min(first + FILES_A_PART, slices))
        table = pa.Table.from_pylist([row(number) for number in numbers], schema=INDEX)
        mark = sha256("\0".join(f"{uri(number)}\0{SIZE}" for number in numbers).encode()).hexdigest()
        path = (folder.private / "index" / f"part-{first:012d}.parquet").path()
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"files": mark}), path)


def row(number: int) -> dict[str, Any]:
    """What is known of one file."""
    series = number // A_SERIES
    exam = series // SERIES_AN_EXAM
    patient = exam // EXAMS_A_PATIENT
    root = "1.3.12.2.1107.5.2.43.166066"
    plain = {"file_id": number, "uri": uri(number), "kind": "dicom", "frame": 0, "frames": 1}
    if number % BROKEN_EVERY == BROKEN_EVERY - 1:
        return plain | {"problem": "the DICOM header is damaged (EOFError); copy the file again", "problem_status": "unreadable"}
    place = number % A_SERIES
    return plain | {
        "patient_id": f"PID-{patient:08d}", "issuer": "HOSPITAL", "birth_date": f"19{patient % 90:02d}0101", "sex": "MF"[patient % 2],
        "study_date": f"20240{1 + exam % EXAMS_A_PATIENT}02", "study_uid": f"{root}.30000024010211304412300{exam:08d}",
        "series_uid": f"{root}.2024010211304412300{series:08d}.0.0.0", "sop_uid": f"{root}.2024010211304412301{number:010d}",
        "sop_class": "1.2.840.10008.5.1.4.1.1.4", "modality": "MR", "image_type": "ORIGINAL\\PRIMARY\\M\\ND\\NORM",
        "text": "t1_mprage_sag_p2_iso | kopf routine", "photometric": "MONOCHROME2", "manufacturer": MAKER, "field_strength": 3.0,
        "body_part": HEAD, "transfer_syntax": "1.2.840.10008.1.2.1", "scanning_sequence": "GR\\IR", "acquisition": "2d",
        "te_ms": 2.98, "tr_ms": 2300.0, "ti_ms": 900.0, "echo": 1, "time": f"11{place % 60:02d}44.1230", "instance_number": place + 1,
        "rows": 512, "columns": 512, "row_spacing": 0.5, "column_spacing": 0.5, "thickness": 4.0, "spacing_between": 4.4,
        "position": [-120.0, -130.5, 4.4 * place], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    }  # fmt: skip


def scores(folder: RunFolder) -> Iterator[pa.RecordBatch]:
    """What a run says of each slice of the manifest, 65,536 rows at a time."""
    random = np.random.default_rng(0)
    for part in folder.manifest.files(".parquet"):
        table = part.read_table()
        for batch in table.to_batches(max_chunksize=65_536):
            probabilities = random.dirichlet(np.ones(len(LABELS)), len(batch)).astype(np.float32)
            columns = {name: batch[name] for name in ("row_id", "series_key", "slice_index", "position_mm", "duplicate_of")}
            columns |= {
                "status": pa.array(np.where(np.asarray(batch["problem_status"].is_null()), "ok", "unreadable")),
                "decision": pa.array(np.array(["accept", "review", "reject"])[random.integers(0, 3, len(batch))]),
                "label": pa.array(np.array(LABELS)[probabilities.argmax(axis=1)]),
                "feature_distance": pa.array(random.random(len(batch), np.float32)),
            }
            columns |= {f"{PREFIX}{name}": pa.array(probabilities[:, at]) for at, name in enumerate(LABELS)}
            yield pa.RecordBatch.from_pydict(columns)


if __name__ == "__main__":
    sys.exit(main())
