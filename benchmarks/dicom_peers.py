"""Whole runs over slices as DICOM, each a process of its own from start to exit: `python -m benchmarks.dicom_peers`.

    pip install --target DIR --no-deps monai && PYTHONPATH=DIR python -m benchmarks.dicom_peers [--slices 2000] [--rounds 3]

`btc-ray score` in process and on Ray, a MONAI DataLoader (LoadImage with the reader of pydicom) and Ray Data (read_binary_files and
pydicom), both with an eager model: benchmarks/ways. Then `btc-ray score` over the same pictures as JPEG, in enhanced files, as .nii.gz and
in a zip. Every way takes its turn in every round; ratios are those of one round. MONAI is not among what btc-ray needs, and is left out,
aloud, where it is not installed; it goes beside our packages and brings none of its own.

Slices are phantoms of --side pixels as 12-bit uncompressed DICOM, in series of 50; weights are random below a fitted head, or those of
--model.
"""

import argparse
import os
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.__main__ import processor
from benchmarks.dicom_slices import as_dicom, as_enhanced, as_jpeg, as_nifti, as_words, pictures
from benchmarks.inputs import write_model
from benchmarks.processes import run
from btc_ray.model.bundle import library_versions
from btc_ray.progress import say
from btc_ray.workers.session import available_cpus

A_SERIES = 50
DISTINCT = 100  # heads; noise makes every slice another
HERE, ON_RAY, MONAI, RAY_DATA = "btc-ray score, in process", "btc-ray score, on Ray", "MONAI DataLoader", "Ray Data and pydicom"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A command over one of the folders, without its output."""

    name: str
    folder: str
    command: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds by the clock and of the processors."""

    seconds: float
    processor: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a bundle; default: random weights below a fitted head, 224 px")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="ways that have one of these words in their name")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a way is killed")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slices-") as name:
        home = Path(name)
        say("Preparing slices and model …")
        write_slices(home, chosen.slices, chosen.side)
        model = chosen.model or write_model(home / "model")
        found = [way for way in ways(home, model) if not chosen.only or any(word in way.name for word in chosen.only)]
        timings: dict[str, list[Timing]] = {way.name: [] for way in found}
        print(header(chosen.slices, chosen.side, chosen.rounds), flush=True)
        for number in range(chosen.rounds):
            for way in found[:: 1 if number % 2 else -1]:
                timings[way.name].append(time(way, home, chosen.slices, chosen.timeout))
        print(table(timings, chosen.slices))
    return 0


def write_slices(home: Path, count: int, side: int) -> None:
    """The folders dicom, jpeg, enhanced, nifti and zip below `home`, each with `count` slices."""
    greys = pictures(min(count, DISTINCT), side)
    for folder in ("dicom", "jpeg", "enhanced", "nifti", "zip"):
        (home / folder).mkdir()
    with zipfile.ZipFile(home / "zip" / "studies.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as container:
        for first in range(0, count, A_SERIES):
            series: list[np.ndarray] = []
            for number in range(first, min(first + A_SERIES, count)):
                words = as_words(greys[number % len(greys)], number)
                data = as_dicom(words, number, SeriesInstanceUID=f"2.25.3.{first + 1}", StudyInstanceUID=f"2.25.4.{first + 1}")
                (home / "dicom" / f"{number:06d}.dcm").write_bytes(data)
                container.writestr(f"{first:06d}/{number:06d}.dcm", data)
                (home / "jpeg" / f"{number:06d}.jpg").write_bytes(as_jpeg(greys[number % len(greys)]))
                series.append(words)
            tags = {"SeriesInstanceUID": f"2.25.5.{first + 1}", "StudyInstanceUID": f"2.25.6.{first + 1}"}
            (home / "enhanced" / f"{first:06d}.dcm").write_bytes(
                as_enhanced(series, **tags, SOPInstanceUID=f"2.25.7.{first + 1}")
            )
            (home / "nifti" / f"{first:06d}_t1.nii.gz").write_bytes(as_nifti(series))


def ways(home: Path, model: Path) -> list[Way]:
    """Ours and the peers' over DICOM, and ours over the other folders."""

    def ours(name: str, folder: str, rows: int) -> Way:
        flags = ["--model", str(model), "--input", str(home / folder), "--local-rows", str(rows), "--device", "cpu"]
        return Way(name=name, folder=folder, command=[sys.executable, "-m", "btc_ray.cli", "score", *flags])

    def theirs(name: str, module: str) -> Way:
        flags = ["--images", str(home / "dicom"), "--model", str(model)]
        return Way(name=name, folder="dicom", command=[sys.executable, "-m", f"benchmarks.ways.{module}", *flags])

    found = [ours(HERE, "dicom", 10**9), ours(ON_RAY, "dicom", 0), theirs(RAY_DATA, "ray_dicom")]
    if find_spec("monai"):
        found.append(theirs(MONAI, "monai_dicom"))
    else:
        say("MONAI is not installed and is left out: `python -m benchmarks.dicom_peers --help` says how to have it.")
    others = (("the same as JPEG", "jpeg"), ("enhanced, 50 frames a file", "enhanced"), (".nii.gz", "nifti"), ("in a zip", "zip"))
    return found + [ours(name, folder, 10**9) for name, folder in others]


def time(way: Way, home: Path, slices: int, timeout_s: float) -> Timing:
    """One run. Raises RuntimeError where it fails or does not label every slice."""
    with tempfile.TemporaryDirectory(prefix="o-") as name:
        output = Path(name) / "out"
        ran = run([*way.command, "--output", str(output)], timeout_s=timeout_s, temporary=Path(name))
        labels = labelled(output.rglob("*.parquet")) if ran.code == 0 else 0
    if ran.code != 0 or labels != slices:
        raise RuntimeError(f"{way.name}: exit code {ran.code}, {labels:,} labels of {slices:,} slices.\n{ran.said}")
    say(f"{way.name}: {ran.seconds:.1f} s, {ran.processor:.1f} s of the processors; load {os.getloadavg()[0]:.1f}")
    return Timing(seconds=ran.seconds, processor=ran.processor)


def labelled(files: Iterable[Path]) -> int:
    """How many slices have a label, in tables of slices."""
    count = 0
    for file in files:
        names = pq.read_schema(file).names
        if "label" in names and ("uri" in names or "path" in names):
            column = pq.ParquetFile(file).read(["label"])["label"]
            count += len(column) - column.null_count
    return count


def header(slices: int, side: int, rounds: int) -> str:
    """Hardware, versions, and what is scored."""
    versions = library_versions()
    return (
        f"{processor()}, {available_cpus()} cores, load before {os.getloadavg()[0]:.1f}\n"
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}\n\n"
        f"{slices:,} slices of {side} px, {rounds} rounds; slices per second from start to exit, median (least, most).\n"
    )


def table(timings: dict[str, list[Timing]], slices: int) -> str:
    """Rates, and what each way takes beside MONAI, Ray Data and JPEG, as medians of the ratios of each round."""
    lines = [
        "| way | slices/s by the clock | ms of processor time a slice | as fast as MONAI | as Ray Data | of JPEG's rate |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in timings.items():
        rates = [slices / one.seconds for one in found]
        cost = statistics.median(1e3 * one.processor / slices for one in found)
        beside = [_beside(found, timings.get(other, [])) for other in (MONAI, RAY_DATA, "the same as JPEG")]
        lines.append(
            f"| {name} | {statistics.median(rates):.1f} ({min(rates):.1f}, {max(rates):.1f}) | {cost:.1f} | {' | '.join(beside)} |"
        )
    return "\n".join([*lines, "\nHow many times as fast: by the clock, and in brackets by processor time."])


def _beside(mine: Sequence[Timing], other: Sequence[Timing]) -> str:
    if not other:
        return "–"
    clock = statistics.median(theirs.seconds / one.seconds for one, theirs in zip(mine, other, strict=True))
    work = statistics.median(theirs.processor / one.processor for one, theirs in zip(mine, other, strict=True))
    return f"{clock:.2f} ({work:.2f})"


if __name__ == "__main__":
    sys.exit(main())
