"""`btc-ray score`: an archive into Parquet, and the end report; or, with --dry-run, what would be done."""

import os
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from btc_ray import settings
from btc_ray.errors import COMPLETE, TOO_MANY_BAD
from btc_ray.progress import duration, say
from btc_ray.scoring.state import RunState
from btc_ray.storage import Place
from btc_ray.studies.told import told
from btc_ray.workers.session import available_cpus, ray_session

if TYPE_CHECKING:
    from btc_ray.scoring.inputs import Found
    from btc_ray.scoring.series import Groups

SAMPLE = 32  # images that a dry run times


def score(chosen: settings.Score) -> int:
    """Score, then write summary.html; 3 where more images than allowed are not ok."""
    if chosen.dry_run:
        return _dry_run(chosen)
    state = run_and_summarise(chosen)
    counts = state.counts
    assert counts is not None
    output = Place(chosen.output, chosen.storage())
    grouped = _grouped(output, state)
    page = output / "summary.html"
    for status, number in sorted(counts.status.items(), key=lambda item: -item[1]):
        print(f"{status:<12} {number:>12,}")
    for label, number in sorted(counts.label.items()):
        print(f"  {label:<12} {number:>10,}")
    print(f"scores       {output / 'scores'}")
    if grouped is not None:
        print(f"series       {output / 'series'}  ({grouped.selected:,} of {grouped.series:,} scored)")
        print(f"exams        {output / 'exams'}  ({grouped.exams - grouped.without:,} of {grouped.exams:,} with a scored series)")
    print(f"summary      {page}")
    say(f"What to look at first: btc-ray review --run {output}")
    bad = state.bad_fraction
    if bad > chosen.max_bad_fraction:
        say(
            f"{bad:.1%} of the images are not ok, more than --max-bad-fraction {chosen.max_bad_fraction:.1%}. The summary says why."
        )
        return TOO_MANY_BAD
    if grouped is not None and grouped.without > chosen.max_unselected_fraction * grouped.exams:
        say(
            f"{grouped.without:,} of {grouped.exams:,} studies have no scored series, more than --max-unselected-fraction "
            f"{chosen.max_unselected_fraction:.1%}."
        )
        return TOO_MANY_BAD
    return COMPLETE


def run_and_summarise(chosen: settings.Score) -> RunState:
    """Score an archive and write its summary.html; what run.json says at the end. Raises as `scoring.run.score` does."""
    from btc_ray.archive.addresses import with_key
    from btc_ray.scoring.run import score as run

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # a submitted job, whose driver stands on a head that is not there to work
        chosen = replace(chosen, address=chosen.address or os.environ.get("RAY_ADDRESS") or None)
    options = with_key(chosen.input, chosen.storage())
    state = run(chosen, cpus=chosen.cpus or available_cpus(), ray_session=ray_session(chosen), options=options)
    output = Place(chosen.output, options)
    page = output / "summary.html"
    if not page.exists():
        _summarise(output, state, page)
    return state


def _grouped(output: Place, state: RunState) -> "Groups | None":
    """Write the tables of series and exams, where there are series."""
    if not state.studies:
        return None
    from btc_ray.reports.worklist.worklist import healthy_class
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.series import write_groups

    return write_groups(RunFolder(output), state, healthy=healthy_class(state.classes))


def _dry_run(chosen: settings.Score) -> int:
    """Say what would be scored, what would be skipped and why, and how long it would take; what is read on the way stands in a folder
    that only its owner may enter, and is gone at the end."""
    from btc_ray.archive.addresses import with_key
    from btc_ray.model.bundle.signature import read_trusted_bundle
    from btc_ray.model.engines.choose import choose
    from btc_ray.scoring.estimate import images_per_second, sample_of
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.inputs import list_images
    from btc_ray.scoring.run import find_known

    model = Place(chosen.model, with_key(chosen.input, chosen.storage()))
    bundle = read_trusted_bundle(model, chosen.require_signature)
    workers = chosen.cpus or available_cpus()
    with TemporaryDirectory(prefix="btc-ray-dry-run-") as folder:
        run = RunFolder(Place(folder, model.options))
        known = find_known(chosen, bundle, but=model.at(chosen.output)) if chosen.known else None
        found = list_images(chosen, run, known=known, cpus=workers)
        sample = sample_of(run.manifest, SAMPLE)
    if known is not None:
        print(f"{known.files:,} files are known from earlier runs and would not be scored again")
    _print_listed(found)
    if len(sample):
        choice = choose(engine=chosen.engine, device=chosen.device, precision=chosen.precision, bundle=bundle)
        rate = images_per_second(sample, bundle=bundle, model=model, choice=choice)
        print(
            f"about {duration(found.summary.rows / (rate * workers))} on this machine: {rate:,.0f} images/s a worker, measured on "
            f"{len(sample)} of them, times {workers} workers"
        )
    return COMPLETE


def _print_listed(found: "Found") -> None:
    """Counts of rows by kind, and of what is wrong or left out by reason, with examples where paths are not private."""
    summary = found.summary
    print(f"{summary.rows:,} images, {summary.size / 1e9:,.2f} GB" + (" at least" if summary.unknown_sizes else ""))
    for end, number in summary.formats.items():
        print(f"  {end:<14} {number:>12,}")
    for title, tallies in (("would get a row with their reason", summary.problems), ("would be skipped", summary.skipped)):
        for reason, tally in tallies.items():
            print(f"{tally.count:,} {title}: {reason}")
            print("".join(f"    {uri!r}\n" for uri in tally.examples[:5] if not found.private), end="")
    for sentence in told(found.studies):
        print(sentence)


def _summarise(output: Place, state: RunState, page: Place) -> None:
    """Write RUN/summary.html, its thumbnails read again from where the images are."""
    from btc_ray.archive.reader import ByteReader
    from btc_ray.reports.summary.page import COLUMNS, write_summary
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.pictures import Pictures, burned_in

    say("Writing the summary …")
    folder = RunFolder(output)
    pictures = Pictures(folder, ByteReader(output.options), hidden=burned_in(folder))
    shown = folder.score_batches([*COLUMNS, *state.probability_columns])
    html = write_summary(scores=shown, run=state.to_dict(), read_image=pictures)
    page.write(html.encode("utf-8", "replace"))
