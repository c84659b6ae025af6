"""`btc-ray review`: what a reader should see first of a scored archive, as a page, a table and numbers."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from btc_ray import settings
from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.errors import COMPLETE, UserError
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, BundleError, read_bundle, read_weights
from btc_ray.model.reference import thresholds_id
from btc_ray.progress import Progress, say
from btc_ray.scoring.folder import EXAMS_PAGE, REVIEW, RunFolder
from btc_ray.scoring.pictures import NOT_HERE, Pictures, burned_in
from btc_ray.scoring.state import RunState, read_state
from btc_ray.storage import Place, redact
from btc_ray.storage.outputs import check_output
from btc_ray.studies.shown import BURNED_IN
from btc_ray.workers.session import available_cpus

PAGE, RECORD, TABLE = REVIEW
BATCH = 16

Explain: TypeAlias = Callable[[np.ndarray, Sequence[str]], np.ndarray]


class ReviewError(UserError):
    """A run that cannot be reviewed."""


def review(chosen: settings.Review) -> int:
    """Write review.html, review.json and worklist.parquet, and where there are exams exams.html.

    Raises ReviewError, BundleError, WorklistError, OutputError.
    """
    from btc_ray.reports.worklist.page import write_review
    from btc_ray.reports.worklist.record import describe_run
    from btc_ray.reports.worklist.sample import with_sample
    from btc_ray.reports.worklist.worklist import read_worklist

    run = Place(chosen.run, chosen.storage())
    folder = RunFolder(run)
    if not (run / "run.json").exists():
        raise ReviewError(f"{run} is not a run folder (no run.json). Give --run the --output of `btc-ray score`.")
    state = read_state(run)
    if not state.complete:
        raise ReviewError(f"{run} is not complete: run its `btc-ray score` again, then review it.")
    model, bundle = _bundle(chosen, state)
    output = run.at(chosen.output or chosen.run)
    if chosen.output is not None:
        check_output(output, ours=(PAGE, RECORD, TABLE, EXAMS_PAGE, ".*"))
    say("Reading the scores …")
    worklist = read_worklist(
        folder.score_batches(),
        bundle.classes,
        most=chosen.rows,
        decision=bundle.decision,
        columns=bundle.columns,
        sample=chosen.sample,
        seed=chosen.seed,
        order=chosen.order,
    )
    table = with_sample(worklist.chosen(), worklist.sample)
    record = describe_run(worklist, bundle, state.to_dict(), run_id=state.run_id, shown=len(table))
    rows: list[dict[str, Any]] = []
    if len(table):
        listed = table.sort_by("row_id").to_pylist()  # as archives hold them: the way back in a compressed tar is its beginning
        manifest, hidden = _manifest_rows(folder, listed), burned_in(folder)
        read = zip(manifest, ByteReader(run.options).read_many(manifest), strict=True)
        contents = (_shown(row, content, hidden) for row, content in read)
        listed = [row | {"frame": found["frame"]} for row, found in zip(listed, manifest, strict=True)]
        explain = _explainer(model, bundle, threads=chosen.cpus or available_cpus())
        with Progress("Drawing", len(listed)) as progress:
            for row in _with_pictures(
                listed, contents, Preprocess.from_dict(bundle.preprocess), explain, side=chosen.picture_side
            ):
                rows.append(row)
                progress.advance(1)
        order = {row_id: place for place, row_id in enumerate(table["row_id"].to_pylist())}
        rows.sort(key=lambda row: order[row["row_id"]])
    table = table.set_column(table.schema.get_field_index("uri"), "uri", [[redact(uri) for uri in table["uri"].to_pylist()]])
    (output / PAGE).remove()  # it told of the rows before
    (output / TABLE).write_table(table)
    (output / RECORD).write_json(record)
    (output / PAGE).write(write_review(record, rows).encode("utf-8", "replace"))
    print(record["headline"])
    for warning in record["warnings"]:
        print(f"  {warning}")
    exams = (("exams", EXAMS_PAGE),) if _write_exams(folder, output) else ()
    for name, file in (("page", PAGE), *exams, ("numbers", RECORD), ("worklist", TABLE)):
        print(f"{name:<12} {output / file}")
    return COMPLETE


def _manifest_rows(folder: RunFolder, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the manifest; where that is not here, rows that say so."""
    try:
        return folder.manifest_rows([row["row_id"] for row in rows])
    except FileNotFoundError:
        say("The page has no pictures: the list of where the images are, in RUN/private where paths are private, is not here.")
        return [{"uri": row["uri"], "frame": None, "problem_status": "failed", "problem": NOT_HERE} for row in rows]


def _write_exams(folder: RunFolder, output: Place) -> bool:
    """Write the page of exams; whether the run has any."""
    from btc_ray.reports.exams.page import write_exams

    (output / EXAMS_PAGE).remove()
    parts = [place.files(".parquet") for place in (folder.exams, folder.series)]
    if not all(parts):
        return False
    say("Drawing the exams …")
    exams, series = (pa.concat_tables([file.read_table() for file in files]) for files in parts)
    pictures = Pictures(folder, ByteReader(folder.place.options), hidden=burned_in(folder))
    page = write_exams(exams=exams, series=series, scores=folder.score_batches(), read_image=pictures)
    (output / EXAMS_PAGE).write(page.encode("utf-8", "replace"))
    return True


def _shown(listed: Mapping[str, Any], content: bytes | Exception, hidden: frozenset[str]) -> bytes | Exception:
    """What is drawn of a row: nothing where a name may be burned in, and of a private row no error that names its path."""
    if listed.get("series_key") in hidden:
        return ReadError(BURNED_IN, status="unsupported")
    if isinstance(content, Exception) and listed.get("shown_uri"):
        return ReadError("the file cannot be read again", status="failed")
    return content


def _bundle(chosen: settings.Review, state: RunState) -> tuple[Place, Bundle]:
    """Where the bundle is that made the run, and what it says."""
    uri, made = chosen.model or str(state.model_uri or state.settings["model"]), state.fingerprint
    run, place = Place(chosen.run), Place(uri, chosen.storage())
    try:
        bundle = read_bundle(place)
    except BundleError as error:
        if chosen.model is not None:
            raise
        raise ReviewError(f"the run was made by {place}, which cannot be read. Give --model. ({error})") from error
    for what, mine in (("model_id", bundle.model_id), ("preprocess_id", bundle.preprocess_id)):
        if (theirs := getattr(made, what)) != mine:
            raise ReviewError(f"{run} was made by {what} {theirs}, {place} has {mine}. Give --model the one that made it.")
    if made.decision != thresholds_id(bundle.decision):
        say(f"{run} was decided by other thresholds than {place} has, or by none: the bundle's are left out of the review.")
        bundle = replace(bundle, decision={})
    return place, bundle


def _with_pictures(
    rows: list[dict[str, Any]],
    contents: Iterator[bytes | Exception],
    preprocess: Preprocess,
    explain: Explain,
    *,
    side: int,
) -> Iterator[dict[str, Any]]:
    """The rows with `picture` and `heat`, which may be None, and `problem`, why there is no picture."""
    from btc_ray.reports.worklist.page import heat_picture, small_picture

    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        found = zip(batch, islice(contents, len(batch)), strict=True)
        seen = [_seen(content, row, preprocess) for row, content in found]
        shown = [number for number, (whole, _) in enumerate(seen) if not isinstance(whole, str)]
        crops = [seen[number][1] for number in shown]
        heats = (
            dict(zip(shown, explain(np.stack(crops), [batch[number]["label"] for number in shown]), strict=True)) if shown else {}
        )
        for number, (row, (whole, _)) in enumerate(zip(batch, seen, strict=True)):
            if isinstance(whole, str):
                yield row | {"picture": None, "heat": None, "problem": whole}
            else:
                yield row | {"picture": small_picture(whole, side=side), "heat": heat_picture(heats[number]), "problem": None}


def _seen(content: bytes | Exception, row: Mapping[str, Any], preprocess: Preprocess) -> tuple[np.ndarray | str, np.ndarray]:
    """The whole image, or why there is none, and the crop that the model saw, which its row tells; where the model saw it from a JPEG
    decoded at a part of its size, it differs by how that was shrunk."""
    from btc_ray.images.decode import decode
    from btc_ray.images.prepare import square

    nothing = np.empty(0, np.uint8)
    if isinstance(content, Exception):
        return str(content), nothing
    if hashlib.sha256(content).hexdigest() != row["content_sha256"]:
        return "the file has changed since it was scored", nothing
    frame = row.get("frame") or 0
    grey = decode(content, frame=frame, max_pixels=preprocess.max_pixels, algorithm=preprocess.algorithm)
    x, y, w, h = (row[f"crop_{name}"] for name in "xywh")
    return grey, square(grey[y : y + h, x : x + w], preprocess.size)


def _explainer(model: Place, bundle: Bundle, *, threads: int) -> Explain:
    """Crops and their labels in, an activation map of each out."""
    import torch

    from btc_ray.model.activation import activation_maps
    from btc_ray.model.engines.folded import folded_network

    torch.set_num_threads(threads)
    network = folded_network(read_weights(model, bundle), mean=bundle.mean, std=bundle.std, device="cpu")
    number = {name: number for number, name in enumerate(bundle.classes)}
    return lambda pixels, labels: activation_maps(network, pixels, np.array([number[label] for label in labels]))
