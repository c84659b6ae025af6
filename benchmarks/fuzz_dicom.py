"""Damaged DICOM and NIfTI files as a run meets them: `python -m benchmarks.fuzz_dicom --dicom 2000 --nifti 300`.

Small sound files (every transfer syntax that has an encoder here, one frame and several, groups of frames, floats, padding; NIfTI of both
versions, packed or not, of three and four dimensions) are changed at random in their headers, pixels and compressed frames, and the folder
is scored by a process of its own. Every file has to be a row or to be counted as skipped with its reason, the run has to end with a
code of the contract, no process may stay behind, and the driver may not grow with the number of files. By its seed each mutant can be
made again: `--seed S --only N` writes it to a file. A frame may take one second of its decoder here instead of five, since some never
return.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.fuzz_images import mutant
from benchmarks.sound_dicom import dicom_files, nifti_files
from btc_ray.images.formats import frame_pool
from btc_ray.images.prepare import Preprocess, prepare

SHORT_S = 1  # of a decoder for a frame
PATIENCE_S = 30  # with what ends by itself
ENDED = (0, 3)  # complete; complete, and more bad rows than a limit
GROWTH_MB = 60.0  # that the driver of all files may need above that of a tenth of them


def main() -> int:
    chosen = _arguments()
    if chosen.run:
        return _score(*map(Path, chosen.run))
    sound = dicom_files(), nifti_files()
    for name, data in (sound[0] | sound[1]).items():
        whole = prepare(data, Preprocess())
        assert whole.status == "ok" or "12 bits" in (whole.error or ""), f"{name}: {whole.error}"
    frame_pool.close()
    if chosen.only is not None:
        for name, data in mutants(sound, chosen.seed, [chosen.only], [chosen.only]):
            Path(f"mutant-{chosen.seed}-{name}").write_bytes(data)
        return 0
    from benchmarks.scale import write_model

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write_model(home / "model")
        found = []
        for share in (10, 1):
            folder = home / f"files-{share}"
            write(folder, mutants(sound, chosen.seed, range(chosen.dicom // share), range(chosen.nifti // share)))
            found.append(measured(folder, home / f"run-{share}", home / "model"))
    few, many = found
    grown = many["driver_mb"] - few["driver_mb"]
    print(
        f"{chosen.dicom:,} mutants of {len(sound[0])} DICOM files and {chosen.nifti:,} of {len(sound[1])} NIfTI files, seed {chosen.seed}"
    )
    print(f"exit code {many['code']}, {many['seconds']:.0f} s by the clock")
    print(f"of {many['files']:,} files {many['scored']:,} have rows and {many['skipped']:,} are skipped")
    print("rows: " + ", ".join(f"{count:,} {status}" for status, count in many["status"].items()))
    for reason, count in many["reasons"].items():
        print(f"  {count:>6,}  {reason}")
    print(
        f"files that are neither: {len(many['lost'])}; rows that this program failed on: {many['failed']}; processes left: {many['left']}"
    )
    print(f"driver's most memory: {few['driver_mb']:.0f} MB for a tenth of the files, {many['driver_mb']:.0f} MB for all")
    for line in [*many["lost"][:10], many["stderr"]]:
        print(line)
    good = many["code"] in ENDED and not (many["lost"] or many["failed"] or many["left"]) and grown < GROWTH_MB
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dicom", type=int, default=2000)
    parser.add_argument("--nifti", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one mutant of each kind, which is written to a file")
    parser.add_argument("--run", nargs=3, metavar=("FOLDER", "RUN", "MODEL"), help=argparse.SUPPRESS)
    return parser.parse_args()


def mutants(
    sound: tuple[dict[str, bytes], dict[str, bytes]], seed: int, dicom: Iterable[int], nifti: Iterable[int]
) -> Iterator[tuple[str, bytes]]:
    """Names and bytes: the same for the same seed and number."""
    for files, numbers, kind in zip(sound, (dicom, nifti), ("dicom", "nifti"), strict=True):
        for number in numbers:
            name, data = mutant(files, list(files), seed + (kind == "nifti") * 1_000_003, number)
            yield f"{kind}-{number:06d}{'.dcm' if kind == 'dicom' else name[name.index('.') :]}", data


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    folder.mkdir()
    for name, data in files:
        (folder / name).write_bytes(data)


def measured(folder: Path, run: Path, model: Path) -> dict[str, Any]:
    """Score a folder in a process of its own, and look at what it left."""
    command = [sys.executable, "-m", "benchmarks.fuzz_dicom", "--run", *map(str, (folder, run, model))]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    out, told = process.communicate()
    seconds = time.monotonic() - began
    left = _left(process.pid)
    about = outcome(folder, run)
    return about | {
        "code": process.returncode, "seconds": seconds, "left": left, "stderr": told[-300:] if process.returncode not in ENDED else "",
        "driver_mb": json.loads(out.splitlines()[-1])["driver_mb"] if out.strip() else float("nan"),
    }  # fmt: skip


def outcome(folder: Path, run: Path) -> dict[str, Any]:
    """What became of each file of a folder that was scored into `run`."""
    private = run / "private"
    home = private if (private / "manifest").exists() else run
    names = {path.name for path in folder.iterdir()}
    listed = {Path(uri.partition("#")[0]).name for uri in pq.read_table(home / "manifest", columns=["uri"])["uri"].to_pylist()}
    skipped = {Path(uri).name for uri in pq.read_table(home / "skipped.parquet")["uri"].to_pylist()}
    scores = pq.read_table(run / "scores", columns=["status", "error"]).to_pylist()
    reasons = collections.Counter(
        "".join("#" if c.isdigit() else c for c in row["error"] or "")[:90] for row in scores if row["error"]
    )
    return {
        "files": len(names),
        "scored": len(listed),
        "skipped": len(skipped),
        "lost": sorted(names - listed - skipped),
        "status": dict(collections.Counter(row["status"] for row in scores).most_common()),
        "failed": sum(row["status"] == "failed" for row in scores),
        "reasons": dict(reasons.most_common(12)),
    }


def _left(session: int) -> int:
    """How many processes of a session stay; those that end as their parent has are waited for."""
    for _ in range(10 * PATIENCE_S):
        left = [pid for pid in psutil.pids() if _session(pid) == session]
        if not left:
            break
        time.sleep(0.1)
    return len(left)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _score(folder: Path, run: Path, model: Path) -> int:
    from btc_ray.cli import main as command

    frame_pool.SECONDS = SHORT_S
    code = command(
        [
            "score",
            "--model",
            str(model),
            "--input",
            str(folder),
            "--output",
            str(run),
            "--series",
            "all",
            "--device",
            "cpu",
            "--local-rows",
            "1000000",
        ]
    )
    print(json.dumps({"driver_mb": _peak_mb()}))
    return code


def _peak_mb() -> float:
    """Most memory of this process so far. Not getrusage's, which begins with that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    sys.exit(main())
