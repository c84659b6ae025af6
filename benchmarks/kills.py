"""SIGKILL at random moments of scoring, again and again until the run is complete; then only the tables are looked at: rows lost, rows
doubled, values that differ from those of a run that nobody disturbed, files left behind.

    python -m benchmarks.kills --kills 300                 # in process, the listing and the publishing among the moments
    python -m benchmarks.kills --kills 60 --ray            # the driver and all of its Ray at once, as when a machine goes down
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import write_bundle
from btc_ray.model.weights import initial_network
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.storage import Place

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--images", type=int, default=2000, help="in the archive, a twentieth of them different")
    parser.add_argument("--ray", action="store_true", help="on Ray instead of in process")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archive, model = _archive(root / "in", chosen.images), _model(root / "model")
        flags = ["--local-rows", "0" if chosen.ray else str(chosen.images + 1), "--engine", "torch", "--batch-size", "8"]
        began = time.monotonic()
        _score(model, archive, root / "undisturbed", flags).wait()
        whole = time.monotonic() - began
        expected = _rows(root / "undisturbed")
        kills = runs = lost = doubled = other = left = 0
        while kills < chosen.kills:
            output = root / f"run-{runs}"
            while True:
                process = _score(model, archive, output, flags)
                try:
                    code = process.wait(timeout=moments.uniform(0, whole))
                except subprocess.TimeoutExpired:
                    _kill(process)
                    kills += 1
                    continue
                assert code == 0, (root / "log").read_text()[-2000:]
                break
            found = _rows(output)
            ids = found["row_id"].to_pylist()
            lost += len(set(expected["row_id"].to_pylist()) - set(ids))
            doubled += len(ids) - len(set(ids))
            other += 0 if found.equals(expected) else 1
            left += len([path for path in output.rglob(".*") if path.is_file()]) + (output / "_work").exists()
            runs += 1
    where = "on Ray" if chosen.ray else "in process"
    print(
        f"{kills} kills {where} in {runs} runs of {chosen.images:,} images ({whole:.1f} s undisturbed): {lost} rows lost, "
        f"{doubled} doubled, {other} tables with another value, {left} files left behind"
    )
    sys.exit(bool(lost or doubled or other or left))


def _score(model: Path, archive: Path, output: Path, flags: list[str]) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "btc_ray.cli",
        "score",
        "--model",
        str(model),
        "--input",
        str(archive),
        "--output",
        str(output),
    ]
    with (output.parent / "log").open("ab") as log:
        return subprocess.Popen([*command, *flags], stdout=log, stderr=log, start_new_session=True)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The process and all that it started, at once, by id."""
    members = [item for item in psutil.process_iter() if _session(item) == process.pid]
    for member in members:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(members, timeout=10)


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def _rows(run: Path) -> pa.Table:
    return pq.read_table(run / "scores").sort_by("row_id").combine_chunks()


def _archive(folder: Path, images: int) -> Path:
    sources = write_phantoms(
        folder.parent / "sources", per_class=max(1, images // 80), seed=1, splits=("night",), size=(128, 128)
    )
    folder.mkdir()
    for number in range(images):
        source = sources[number % len(sources)]
        os.link(source, folder / f"{number:05d}{source.suffix}")
    return folder


def _model(folder: Path) -> Path:
    state = initial_network("none", len(CLASSES), seed=0).state_dict()
    write_bundle(
        Place(str(folder)), state=state, classes=CLASSES, preprocess=Preprocess(size=64), training={}, data={}, metrics={}
    )
    return folder


if __name__ == "__main__":
    main()
