"""Scoring the same images with the same weights, each way as a process of its own from start to exit: `python -m benchmarks.peers`.

    python -m benchmarks.peers [--images 3000] [--size 512] [--data DIR] [--model BUNDLE] [--rounds 3] [--only WORD …]

`btc-ray score` with each engine and precision of this machine, and on Ray; beside it Ray Data, PyTorch's DataLoader and Daft as their
documentations write them (benchmarks/ways), and the limits of the machine (benchmarks.limits). Ours crop the head, the peers resize
the whole image, as their documentations do. Every way takes its turn in every round, with all images and with a third of them: the
difference of the two is the steady state, free of start and end.

Images are phantoms of --size pixels as JPEG, or those below --data, which --size brings to so many pixels; weights are random below
a fitted head, or those of --model.
Daft is left out, aloud, where it is not installed. Its requirements are older than btc-ray's, so it goes beside them:

    pip install --target DIR --no-deps daft && PYTHONPATH=DIR python -m benchmarks.peers
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.__main__ import processor
from benchmarks.inputs import images_below, linked, write_model, write_phantoms, write_resized
from benchmarks.limits import Limits
from benchmarks.peers_tables import Results, Timing, read_labels, tables
from benchmarks.processes import Ran, run
from benchmarks.ways.catalogue import Way, ways
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import library_versions, read_bundle, read_int8, read_reference, read_weights, write_bundle
from btc_ray.progress import duration, say
from btc_ray.storage import Place
from btc_ray.workers.session import available_cpus

COLD = 100  # images of the runs that are nearly all start
WARM_UP = 16  # images of an untimed run, which fetches libraries from the disk and shows what does not work here


@dataclass(kw_only=True)
class Bench:
    """What is timed, and what was found so far."""

    model: Path
    folders: dict[int, Path]  # by their number of images
    timeout_s: float
    results: Results = field(default_factory=Results)

    def time(self, way: Way, images: int, *, number: int) -> bool:
        """One run of a way, kept as that of round `number` from 1 on; False where it failed, which is said and kept."""
        with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as temporary:
            output = Path(temporary) / "output"
            ran = self._run(way.command(self.folders[images], self.model, output), Path(temporary))
            labels = read_labels(output) if ran.code == 0 and way.kind != "part" else {}
        if wrong := self._wrong(way, images, ran, len(labels)):
            self.results.failed[way.key] = f"{way.title}: {wrong}"
            say(f"{way.title}: {wrong}\n{ran.said}")
            return False
        if number:
            say(f"round {number}: {way.title}: {images:,} images, {ran.seconds:.1f} s, {ran.processor:.1f} s of processor time")
            self.results.timings.append(Timing(way=way.key, images=images, seconds=ran.seconds, processor=ran.processor))
            self.results.labels[way.key] = max(self.results.labels.get(way.key, {}), labels, key=len)
        return True

    def limit(self) -> None:
        """The limits of the machine, as it is now."""
        images = self.folders[max(self.folders)]
        command = [sys.executable, "-m", "benchmarks.limits", "--images", str(images), "--model", str(self.model)]
        with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
            ran = self._run(command, Path(temporary))
        if ran.code:
            raise RuntimeError(f"benchmarks.limits ended with {ran.code}: {ran.said}")
        say(ran.printed.rpartition("\n{")[0])
        self.results.limits.append(Limits(**json.loads(ran.printed.splitlines()[-1])))

    def _run(self, command: Sequence[str], temporary: Path) -> Ran:
        return run(command, timeout_s=self.timeout_s, temporary=temporary)

    def _wrong(self, way: Way, images: int, ran: Ran, labels: int) -> str | None:
        if ran.code is None:
            return f"killed after {duration(self.timeout_s)}"
        if ran.code:
            return f"exit code {ran.code}"
        return f"{labels:,} labels of {images:,} images" if way.kind != "part" and labels != images else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000, help="how many")
    parser.add_argument("--size", type=int, help="side of an image in pixels: 512 for phantoms, as they are for --data")
    parser.add_argument("--data", type=Path, help="folder of images to take instead of phantoms")
    parser.add_argument("--model", help="bundle; default: random weights below a fitted head, 224 px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="ways that have one of these words in their name")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a way is killed")
    chosen = parser.parse_args()
    every = ways(read_bundle(Place(chosen.model)) if chosen.model else None)
    taken = [way for way in every if not chosen.only or any(word in way.key for word in chosen.only)]
    if not taken:
        parser.error(f"--only: there are {', '.join(way.key for way in every)}")
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        home = Path(name)
        say("Preparing images and model …")
        paths = _images(chosen.data, home / "images", chosen.images, chosen.size)
        if len(paths) < 6:
            parser.error("--images: at least 6, of which a third is scored as well")
        sizes = {len(paths), len(paths) // 3, *(min(count, len(paths)) for count in (COLD, WARM_UP))}
        bench = Bench(
            model=_given_model(chosen.model, home / "model"),
            folders={size: linked(paths[:size], home / f"images-{size}") for size in sizes},
            timeout_s=chosen.timeout,
        )
        print(_header(paths, bench.model, chosen.rounds), flush=True)
        _rounds(bench, taken, all_images=len(paths), rounds=chosen.rounds)
    print(tables(bench.results, taken, all_images=len(paths), cold=min(COLD, len(paths))))
    return 1 if bench.results.failed else 0


def _rounds(bench: Bench, taken: Sequence[Way], *, all_images: int, rounds: int) -> None:
    """Every way in every round, forwards and backwards in turn; a way that failed is left out from then on."""
    going = [way for way in taken if bench.time(way, min(WARM_UP, all_images), number=0)]
    for number in range(1, rounds + 1):
        bench.limit()
        for way in going[:: 1 if number % 2 else -1]:
            sizes = [all_images, all_images // 3, *([min(COLD, all_images)] if way.cold else [])]
            if not all(bench.time(way, size, number=number) for size in sizes):
                going.remove(way)


def _images(data: Path | None, folder: Path, count: int, size: int | None) -> list[Path]:
    if data is None:
        return write_phantoms(folder, count, size=size or 512)
    paths = images_below(data)[:count]
    return write_resized(paths, folder, size=size) if size else paths


def _given_model(uri: str | None, folder: Path) -> Path:
    """A copy of the bundle, without the flips that would make our model do four times the work of the peers'."""
    if uri is None:
        return write_model(folder)
    bundle = read_bundle(Place(uri))
    write_bundle(
        Place(str(folder)),
        state=read_weights(Place(uri), bundle),
        classes=bundle.classes,
        preprocess=Preprocess.from_dict(bundle.preprocess),
        training={},
        data={},
        metrics={},
        temperature=bundle.temperature,
        decision=bundle.decision,
        reference=read_reference(Place(uri), bundle),
        int8=(read_int8(Place(uri), bundle), bundle.int8) if bundle.int8 else None,
    )
    return folder


def _header(paths: Sequence[Path], model: Path, rounds: int) -> str:
    """Hardware, versions, date, and what is scored."""
    bundle = read_bundle(Place(str(model)))
    versions = library_versions()
    for package in ("pandas", "daft"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    mean = sum(path.stat().st_size for path in paths) / len(paths)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{processor()}, {available_cpus()} cores, {memory:.0f} GiB; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; "
        f"load before {os.getloadavg()[0]:.1f}\n"
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}\n\n"
        f"{len(paths):,} images, {mean / 1e3:.0f} kB each; ResNet18 at {bundle.preprocess['size']} px, model {bundle.model_id}; "
        f"{rounds} rounds.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
