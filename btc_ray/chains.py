"""One function a job: the rooms it goes through, in order, and where its results are. Settings in, exit code out."""

import functools
import os
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from btc_ray import settings
from btc_ray.archive import storage
from btc_ray.archive.entries import Entry, Skipped
from btc_ray.cluster import available_cpus, joined
from btc_ray.progress import duration, say

COMPLETE, TOO_MANY_BAD = 0, 3
SAMPLE = 32  # images that a dry run times


class OutputError(ValueError):
    """An output folder that holds something already."""

    exit_code = 4


def score(chosen: settings.Score) -> int:
    """Score, then write summary.html; 3 where more images than allowed are not ok."""
    if chosen.dry_run:
        return _dry_run(chosen)
    # Ray sets RAY_ADDRESS for a submitted job, whose driver stands on a head that is not there to work.
    chosen = replace(chosen, address=chosen.address or os.environ.get("RAY_ADDRESS") or None)
    from btc_ray.scoring.run import bad_fraction
    from btc_ray.scoring.run import score as run

    state = run(chosen, cpus=chosen.cpus or available_cpus(), ray_session=ray_session(chosen))
    page = storage.join(chosen.output, "summary.html")
    if not storage.exists(page, chosen.storage()):
        _summarise(chosen, state, page)
    for status, number in sorted(state["counts"]["status"].items(), key=lambda item: -item[1]):
        print(f"{status:<12} {number:>12,}")
    for label, number in sorted(state["counts"]["label"].items()):
        print(f"  {label:<12} {number:>10,}")
    print(f"scores       {storage.join(chosen.output, 'scores')}")
    print(f"summary      {page}")
    say(f"What to look at first: btc-ray review --run {chosen.output}")
    bad = bad_fraction(state)
    if bad > chosen.max_bad_fraction:
        say(
            f"{bad:.1%} of the images are not ok, more than --max-bad-fraction {chosen.max_bad_fraction:.1%}. The summary says why."
        )
        return TOO_MANY_BAD
    return COMPLETE


def crop(chosen: settings.Crop) -> int:
    """Crop an archive into Parquet, then draw the crops that a person should look at first."""
    from btc_ray.archive.manifest import write_manifest
    from btc_ray.dataset.crops import crop_in_parallel
    from btc_ray.images.prepare import Preprocess

    options = chosen.storage()
    manifest, crops = storage.join(chosen.output, "manifest"), storage.join(chosen.output, "crops")
    check_output(chosen.output, options)
    preprocess = Preprocess(crop=chosen.crop, size=chosen.size)
    summary = write_manifest(
        chosen.input, manifest, skipped_uri=storage.join(chosen.output, "skipped.parquet"), storage_options=options
    )
    say(f"{summary.rows:,} images to crop, {sum(tally.count for tally in summary.skipped.values()):,} other files skipped.")
    with ray_session(chosen)():
        crop_in_parallel(manifest, crops, preprocess=preprocess, storage_options=options)
    _draw_doubtful(chosen, crops)
    print(f"crops        {crops}")
    print(f"doubtful     {storage.join(chosen.output, 'doubtful.png')}")
    return COMPLETE


def check_output(output: str, storage_options: Mapping[str, str], *, ours: tuple[str, ...] = ()) -> None:
    """A new or empty folder, or one with nothing but the files `ours` (patterns) of a job that goes on or is made anew in its place:
    nothing of a user's is replaced. Raises OutputError."""
    filesystem, path = storage.filesystem(output, storage_options)
    if not filesystem.exists(path):
        return
    found = filesystem.ls(path, detail=False) if filesystem.isdir(path) else [path]
    names = sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in found)
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in ours)]:
        raise OutputError(f"{output} is not empty (it holds {foreign[0]}). Give --output a new folder.")


def ray_session(chosen: settings.Job) -> Callable[[], AbstractContextManager[None]]:
    """What joins or starts Ray when a room needs it."""
    return functools.partial(joined, chosen.address, cpus=chosen.cpus, debug=chosen.debug)


def _dry_run(chosen: settings.Score) -> int:
    """Say what would be scored, what would be skipped and why, and how long it would take; write nothing."""
    from btc_ray.archive.manifest import summarise
    from btc_ray.model.bundle import read_bundle
    from btc_ray.model.engine import choose
    from btc_ray.scoring.estimate import images_per_second

    bundle = read_bundle(chosen.model, chosen.storage())
    sample: list[Entry] = []
    chance, met = random.Random(0), 0

    def look(found: Entry | Skipped) -> None:  # a fair sample of a listing of unknown length (Vitter's algorithm R)
        nonlocal met
        if isinstance(found, Entry) and found.problem_status is None:
            met += 1
            if len(sample) < SAMPLE:
                sample.append(found)
            elif (place := chance.randrange(met)) < SAMPLE:
                sample[place] = found

    summary = summarise(chosen.input, storage_options=chosen.storage(), seen=look)
    print(f"{summary.rows:,} images, {summary.size / 1e9:,.2f} GB" + (" at least" if summary.unknown_sizes else ""))
    for end, number in summary.formats.items():
        print(f"  {end:<14} {number:>12,}")
    for title, tallies in (("would get a row with their reason", summary.problems), ("would be skipped", summary.skipped)):
        for reason, tally in tallies.items():
            print(f"{tally.count:,} {title}: {reason}")
            print("".join(f"    {uri!r}\n" for uri in tally.examples[:5]), end="")
    if sample:
        rate = images_per_second(
            sample,
            bundle=bundle,
            model=chosen.model,
            choice=choose(engine=chosen.engine, device=chosen.device, precision=chosen.precision, bundle=bundle),
            storage_options=chosen.storage(),
        )
        workers = chosen.cpus or available_cpus()
        print(
            f"about {duration(summary.rows / (rate * workers))} on this machine: {rate:,.0f} images/s a worker, measured on "
            f"{len(sample)} of them, times {workers} workers"
        )
    return COMPLETE


def _summarise(chosen: settings.Score, state: Mapping[str, Any], page: str) -> None:
    """Write RUN/summary.html, its thumbnails read again from where the images are."""
    from btc_ray.archive.reader import ByteReader
    from btc_ray.review.report import write_summary
    from btc_ray.scoring.folder import RunFolder

    say("Writing the summary …")
    folder, reader = RunFolder(chosen.output, chosen.storage()), ByteReader(chosen.storage())
    html = write_summary(
        scores=folder.score_batches(),
        run=state,
        read_image=lambda row: reader.read(folder.manifest_row(row["row_id"])),
    )
    storage.write_bytes(page, html.encode("utf-8", "replace"), chosen.storage())


def _draw_doubtful(chosen: settings.Crop, crops: str) -> None:
    """doubtful.png: the crops with the highest `doubt`, as they come out."""
    import cv2
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    from btc_ray.images.batch import pixels_of
    from btc_ray.review.figures import contact_sheet

    filesystem, path = storage.arrow_filesystem(crops, chosen.storage())
    table = pads.dataset(path, filesystem=filesystem, format="parquet")
    doubts = table.to_table(columns=["row_id", "doubt"], filter=pads.field("status") == "ok")
    worst = doubts.take(
        pc.select_k_unstable(doubts, min(chosen.doubtful, len(doubts)), [("doubt", "descending"), ("row_id", "ascending")])
    )
    shown = table.to_table(
        columns=["uri", "doubt", "crop_status", "pixels"], filter=pads.field("row_id").isin(worst["row_id"].combine_chunks())
    )
    shown = shown.sort_by([("doubt", "descending"), ("uri", "ascending")])
    captions = [f"{row['doubt']:.2f} {row['uri'].rpartition('/')[2]}" for row in shown.select(["uri", "doubt"]).to_pylist()]
    sheet = contact_sheet(list(pixels_of(shown)), captions) if captions else contact_sheet([], [])
    storage.write_bytes(storage.join(chosen.output, "doubtful.png"), cv2.imencode(".png", sheet)[1].tobytes(), chosen.storage())
