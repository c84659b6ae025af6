"""The tables of benchmarks.peers, as Markdown: medians over the rounds, with the least and the most."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.limits import Limits
from benchmarks.ways.catalogue import CROP, DATALOADER, NO_MODEL, RAY_DOCS, Way
from btc_ray.workers.session import available_cpus


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One run of a way."""

    way: str
    images: int
    seconds: float
    processor: float


@dataclass(kw_only=True)
class Results:
    """Everything that the rounds found; timings and limits in the order of the rounds."""

    timings: list[Timing] = field(default_factory=list)
    labels: dict[str, dict[str, str | None]] = field(default_factory=dict)  # way → image → label
    limits: list[Limits] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # way → why

    def of(self, way: str, images: int) -> list[Timing]:
        return [timing for timing in self.timings if timing.way == way and timing.images == images]

    def rates(self, way: str, images: int) -> list[float]:
        """Images/s from start to exit, by round."""
        return [images / timing.seconds for timing in self.of(way, images)]

    def steady(self, way: str, images: int) -> list[float]:
        """Images/s of the two thirds that the smaller run does not have, by round; infinite where noise left no difference."""
        third = images // 3
        pairs = zip(self.of(way, images), self.of(way, third), strict=False)
        return [
            (images - third) / (whole.seconds - part.seconds) if whole.seconds > part.seconds else float("inf")
            for whole, part in pairs
        ]


def read_labels(output: Path) -> dict[str, str | None]:
    """File name → label, of all Parquet files below `output` that have labels."""
    found: dict[str, str | None] = {}
    for file in sorted(output.rglob("*.parquet")):
        names = pq.read_schema(file).names
        if "label" in names:
            table = pq.ParquetFile(file).read()
            paths = table["uri" if "uri" in names else "path"].to_pylist()
            found |= dict(zip((path.rpartition("/")[2] for path in paths), table["label"].to_pylist(), strict=True))
    return found


def tables(results: Results, taken: Sequence[Way], *, all_images: int, cold: int) -> str:
    """All that was found, for a reader."""
    parts = [
        _compared(results, taken, all_images),
        _limits(results),
        _parts(results, all_images),
        _cold(results, taken, cold),
        _agreement(results, taken),
        "\n".join(f"Left out: {why}." for why in results.failed.values()),
    ]
    return "\n\n".join(part for part in parts if part)


def _compared(results: Results, taken: Sequence[Way], images: int) -> str:
    rows = []
    for way in taken:
        rates, steady = results.rates(way.key, images), results.steady(way.key, images)
        if way.kind == "part" or not rates:
            continue
        bounds = [limits.bound(way.engine) for limits in results.limits] if way.engine else []
        rows.append(
            [
                way.title,
                _spread(rates),
                *(_spread(_shares(rates, results.rates(key, images)), "{:.2f}") for key in (RAY_DOCS, DATALOADER)),
                _spread(steady),
                _spread(_shares(steady, bounds), "{:.0%}"),
                _spread([images / timing.processor for timing in results.of(way.key, images)]),
            ]
        )
    names = (
        "way",
        "images/s, start to exit",
        "× Ray Data",
        "× DataLoader",
        "steady images/s",
        "of the limit",
        "images/s of processor",
    )
    return _table(names, rows)


def _limits(results: Results) -> str:
    if not results.limits:
        return ""
    cores = available_cpus()
    rows = [
        [f"decoding and cropping, {cores} cores", _spread([one.cropping for one in results.limits]), ""],
        ["decoding and cropping, one core", _spread([one.serial for one in results.limits]), ""],
        ["the same with the data set author's crop", _spread([one.author for one in results.limits]), ""],
    ]
    rows += [
        [
            f"model alone, {engine}, {cores} cores",
            _spread([one.model[engine] for one in results.limits]),
            _spread([one.bound(engine) for one in results.limits]),
        ]
        for engine in results.limits[0].model
    ]
    return _table(("limit", "images/s", "with cropping on the same cores"), rows)


def _parts(results: Results, images: int) -> str:
    """Orchestration: what is left of the cores' cropping once Ray feeds them and takes the rows."""
    rows = []
    cores = [available_cpus() * one.serial for one in results.limits]
    author = [one.author for one in results.limits]
    for key, title in ((NO_MODEL, "score on Ray, no model"), (CROP, "crop on Ray")):
        if steady := results.steady(key, images):
            shares = _spread(_shares(steady, cores), "{:.0%}"), _spread(_shares(steady, author), "{:.2f}")
            rows.append([title, _spread(steady), *shares])
    names = ("btc-ray", "steady images/s", "of cores × one core's cropping", "× the author's method on one core")
    return _table(names, rows) if rows else ""


def _cold(results: Results, taken: Sequence[Way], images: int) -> str:
    rows = [
        [
            way.title,
            _spread([timing.seconds for timing in found], "{:.1f}"),
            _spread([timing.processor for timing in found], "{:.1f}"),
        ]
        for way in taken
        if way.cold and (found := results.of(way.key, images))
    ]
    return _table((f"{images} images, start to exit", "seconds", "seconds of processor"), rows) if rows else ""


def _agreement(results: Results, taken: Sequence[Way]) -> str:
    """In how many labels each way differs from the first of its kind."""
    lines = []
    for kind, words in (("ours", "Ours"), ("peer", "Peers")):
        found = [(way, results.labels[way.key]) for way in taken if way.kind == kind and way.key in results.labels]
        if len(found) < 2:
            continue
        (first, labels), *others = found
        differ = ", ".join(f"{way.title} {_differing(labels, other):,}" for way, other in others)
        lines.append(f"{words}, labels of {len(labels):,} that differ from {first.title}: {differ}.")
    return "\n".join(lines)


def _differing(one: Mapping[str, str | None], other: Mapping[str, str | None]) -> int:
    return sum(label != other.get(image) for image, label in one.items())


def _shares(found: Iterable[float], of: Iterable[float]) -> list[float]:
    """Round by round, so that a round in which the machine was busy weighs on both sides."""
    return [one / other for one, other in zip(found, of, strict=False)]


def _spread(values: Sequence[float], form: str = "{:,.1f}") -> str:
    """Median (least to most)."""
    if not values:
        return ""
    shown = form.format(statistics.median(values))
    return shown if len(values) == 1 else f"{shown} ({form.format(min(values))} to {form.format(max(values))})"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
