"""A scoring run from its inputs to its commit mark: freeze the manifest, score it here or on Ray, reconcile, publish."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import storage
from btc_ray.archive.addresses import with_key
from btc_ray.archive.entries import Entry
from btc_ray.archive.parallel import Spread
from btc_ray.errors import RefusedError
from btc_ray.model.bundle import Bundle, library_versions
from btc_ray.model.bundle.signature import read_trusted_bundle
from btc_ray.model.engines.choose import choose
from btc_ray.model.engines.engine import Choice, EngineError
from btc_ray.progress import Progress, say
from btc_ray.scoring import finish
from btc_ray.scoring.earlier import find_runs, of_this_model
from btc_ray.scoring.finish import staged_ids
from btc_ray.scoring.folder import ANSWERS, EXAMS_PAGE, REVIEW, RULE, RunFolder, same_inputs
from btc_ray.scoring.inputs import given_images, list_images
from btc_ray.scoring.known import Known, open_known
from btc_ray.scoring.state import Fingerprint, Listed, RunState, difference, fingerprint_of, hashed, without_paths
from btc_ray.scoring.table import scores_schema
from btc_ray.scoring.whole import check_whole, is_finished
from btc_ray.settings import Score, to_dict
from btc_ray.storage import Place

if TYPE_CHECKING:
    from btc_ray.workers.pool import Pool

RaySession = Callable[[], AbstractContextManager[None]]


def score(
    settings: Score,
    *,
    cpus: int,
    ray_session: RaySession,
    entries: Iterable[Entry] | None = None,
    options: storage.Options = None,
) -> RunState:
    """Run or continue a scoring job; returns what `run.json` says at the end.

    `ray_session` joins Ray while it is entered; `cpus` are the threads of the in-process path. `entries`: what `settings.input` stands
    for, where its slices were chosen before; None: it is listed. `options`: of the stores, as `with_key` gives them for these inputs; None:
    they are made here. Raises RefusedError where the run
    folder belongs to something else, BundleError and ArchiveError for unusable arguments, IncompleteError where rows were lost.
    """
    model = Place(settings.model, with_key(settings.input, settings.storage()) if options is None else options)
    bundle = read_trusted_bundle(model, settings.require_signature)
    folder = RunFolder(model.at(settings.output))
    with folder.locked(lease_s=settings.lease):
        state = folder.read_state()
        if state is not None and state.manifest is None:
            state = None  # its inputs were never listed to the end: there is nothing to belong to
        if state is not None:
            _check_belongs(state, settings, bundle)
            check_whole(folder, state)
        elif settings.retry_failed:
            raise RefusedError(f"{folder.place} holds no complete run to retry: run the command without --retry-failed first.")
        if state is not None and state.complete and not settings.retry_failed:
            say(f"{folder.place} is complete already; its inputs were listed {state.manifest and state.manifest.listed}.")
            folder.clear_work()
            return state
        if state is not None and folder.attempt and not state.complete:
            # From here on no driver of before can write run.json. What it was about to publish is finished again, from what it staged.
            state = folder.write_state(state.changed(finishing=None))
        if state is None:
            spread = _on_cluster(ray_session) if settings.address not in (None, "local") else None
            state = _freeze_manifest(folder, settings, bundle, cpus=cpus, entries=entries, spread=spread)
        if settings.retry_failed:
            if state.complete and state.counts is not None and state.counts.bad_fraction == 0:
                say("Every row is ok; there is nothing to score again.")
                return state
            state = _begin_retry(folder, state)
        if state.finishing is not None and not is_finished(folder, state):
            say("Tables that were about to be published were lost or cut since: they are written again, from what is staged.")
            state = folder.write_state(state.changed(finishing=None))
        if state.finishing is None:
            state = _execute(folder, state, settings, bundle, cpus=cpus, ray_session=ray_session)
        return _publish(folder, state)


def _check_belongs(state: RunState, settings: Score, bundle: Bundle) -> None:
    now = _fingerprint(settings, bundle)
    if state.private:
        now = replace(now, inputs=hashed(now.inputs))
    if found := difference(state.fingerprint, now, int8_id=bundle.int8.get("int8_id")):
        raise RefusedError(
            f"{Place(settings.output)} belongs to {found}. Use another --output, or run the command it was begun with."
        )


def _fingerprint(settings: Score, bundle: Bundle) -> Fingerprint:
    return fingerprint_of(
        same_inputs(settings.input), bundle, engine=settings.engine, precision=settings.precision, series=settings.series
    )


def _freeze_manifest(
    folder: RunFolder,
    settings: Score,
    bundle: Bundle,
    *,
    cpus: int,
    entries: Iterable[Entry] | None,
    spread: Spread | None,
) -> RunState:
    """Write the manifest and the first `run.json`. A manifest that a killed run left unfinished is begun again."""
    state = RunState(
        since_attempt=folder.attempt,
        settings=to_dict(settings),
        model_uri=storage.absolute(settings.model),
        fingerprint=_fingerprint(settings, bundle),
        classes=list(bundle.classes),
        columns=list(bundle.columns),
        series_rule=bundle.decision.get("series_rule") or {},
        versions=library_versions(),
    )
    state = folder.write_state(state)
    folder.manifest.remove()
    known = find_known(settings, bundle, but=folder.place) if settings.known else None
    say("Listing the inputs …")
    found = (
        given_images(entries, folder)
        if entries is not None
        else list_images(settings, folder, known=known, cpus=cpus, spread=spread)
    )
    summary = found.summary
    listed = asdict(summary)
    skipped_by_reason = listed.pop("skipped")
    state = state.changed(skipped=skipped_by_reason, manifest=Listed(**listed, listed=_now()))
    if found.private:
        state = without_paths(state)
    state = state.changed(private=found.private, studies=found.studies, known=known.to_dict() if known else {})
    skipped = sum(reason["count"] for reason in skipped_by_reason.values())
    say(f"{summary.rows:,} images to score" + (f", {skipped:,} other files skipped." if skipped else "."))
    return folder.write_state(state)


def find_known(settings: Score, bundle: Bundle, *, but: Place) -> Known:
    """What the runs of --known scored with this bundle; `but`, the folder of this run, is none of them.

    Raises EarlierRunError where one that is named is no run, IncompleteError where one has lost files.
    """
    earlier = find_runs(settings.known, settings.storage(), flag="--known", but=but)
    earlier = of_this_model(earlier, _fingerprint(settings, bundle), int8_id=bundle.int8.get("int8_id"))
    if not earlier.runs:
        say("No earlier run is known: every image is new.")
    return open_known(earlier, by=settings.known_by)


def _begin_retry(folder: RunFolder, state: RunState) -> RunState:
    """Write the rows that are not ok as the next thing to do; the published rows stay until better ones are finished."""
    if not state.complete:
        if state.generation == 0:
            raise RefusedError(f"{folder.place} is not complete yet: run it again without --retry-failed first.")
        return state  # a retry that was killed goes on
    import pyarrow.dataset as pads

    filesystem, path = folder.scores.arrow()
    scores = pads.dataset(path, filesystem=filesystem, format="parquet")
    bad = scores.to_table(columns=["row_id"], filter=pads.field("status") != "ok")["row_id"]
    folder.clear_work()
    filesystem, path = folder.manifest.arrow()
    manifest = pads.dataset(path, filesystem=filesystem, format="parquet")
    rows = manifest.to_table(filter=pc.field("row_id").isin(bad.combine_chunks())).sort_by("row_id")
    folder.check()
    (folder.todo / "part-00000.parquet").write_table(_second_chance(rows))
    begun = {"complete": False, "generation": state.generation + 1, "since_attempt": folder.attempt}
    return folder.write_state(state.changed(**begun, retrying=len(rows)))


def _second_chance(rows: pa.Table) -> pa.Table:
    """What failed while listing may be readable by now; what is broken or unsupported in itself stays so."""
    failed = pc.fill_null(pc.equal(rows["problem_status"], "failed"), False)
    for name in ("problem_status", "problem"):
        cleared = pc.if_else(failed, pa.scalar(None, pa.string()), rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), cleared)
    return rows


def _execute(
    folder: RunFolder,
    state: RunState,
    settings: Score,
    bundle: Bundle,
    *,
    cpus: int,
    ray_session: RaySession,
) -> RunState:
    """Score what is to do, then reconcile and write the finished files."""
    assert state.manifest is not None
    todo, rows = (folder.todo, state.retrying or 0) if state.generation else (folder.manifest, state.manifest.rows)
    staged = (folder.staged_here, folder.staged_ray)
    inherited = folder.inherited(state)
    done = staged_ids([*inherited, *_parts(*staged)])
    on_ray = settings.address is not None or rows >= settings.local_rows
    session: dict[str, Any] = {
        "path": "ray" if on_ray else "in-process",
        "started": _now(),
    }
    if len(done):
        say(f"Continuing: {len(done):,} of {rows:,} images are done.")
    several_files = state.manifest.rows > finish.ROWS_PER_FILE
    with ray_session() if on_ray and (len(done) < rows or several_files) else nullcontext():
        began = time.monotonic()
        if len(done) < rows:
            progress = Progress("Scoring", rows, done=len(done))
            if on_ray:
                pool, choice = _pool(settings, state, bundle)
                state = _computed_with(folder, state, choice, bundle)
                with progress:
                    _score_on_ray(folder, todo, settings, bundle, pool, choice, rows, inherited, progress)
                session |= asdict(choice) | {"resources": {"CPU": pool.cpus, "GPU": pool.gpus * pool.gpus_each}}
            else:
                choice = _choice(settings, state, bundle, choose)
                state = _computed_with(folder, state, choice, bundle)
                with progress:
                    _score_here(folder, todo, settings, bundle, choice, cpus, done, progress)
                session |= asdict(choice) | {"resources": {"CPU": cpus}}
        session |= {"seconds": round(time.monotonic() - began, 3), "images": rows - len(done)}
        sources = [*_parts(*staged), *inherited, *(folder.score_parts() if state.generation else [])]
        names, counts = finish.write_finished(
            folder,
            scores_schema(bundle),
            sources,
            generation=state.generation,
            spread=_on_workers() if on_ray and several_files else map,
        )
    return folder.write_state(state.changed(finishing=names, counts=counts, sessions=[*state.sessions, session]))


def _on_cluster(ray_session: RaySession) -> Spread:
    """What calls a function on a cluster's workers; it is joined for as long as that takes."""

    def spread(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        with ray_session():
            yield from _on_workers()(function, items)

    return spread


def _on_workers() -> Spread:
    from btc_ray.workers.tasks import spread

    return spread


def _choice(settings: Score, state: RunState, bundle: Bundle, choose: Callable[..., Choice]) -> Choice:
    """What computes: what the run was begun with, else what the settings ask for. Raises RefusedError where that is not here."""
    begun = {"engine": state.fingerprint.engine, "precision": state.fingerprint.precision}
    asked = {key: getattr(settings, key) if begun[key] == "auto" else begun[key] for key in begun}
    try:
        return choose(device=settings.device, bundle=bundle, **asked)
    except EngineError as error:
        if all(getattr(settings, key) == asked[key] for key in asked):
            raise
        raise RefusedError(
            f"{settings.output} was begun with {begun['engine']} in {begun['precision']}, which is not to be had here: {error} "
            "Continue it where it was begun, or use another --output."
        ) from error


def _computed_with(folder: RunFolder, state: RunState, choice: Choice, bundle: Bundle) -> RunState:
    """Write down what `auto` stood for, before the first row: a run that goes on elsewhere does not change its arithmetic."""
    int8_id = bundle.int8.get("int8_id") if choice.precision == "int8" else state.fingerprint.int8_id
    fingerprint = replace(state.fingerprint, engine=choice.engine, precision=choice.precision, int8_id=int8_id)
    return folder.write_state(state.changed(fingerprint=fingerprint))


def _score_here(
    folder: RunFolder,
    todo: Place,
    settings: Score,
    bundle: Bundle,
    choice: Choice,
    cpus: int,
    done: np.ndarray,
    progress: Progress,
) -> None:
    from btc_ray.scoring.local import score_here

    score_here(
        folder,
        _parts(todo),
        bundle=bundle,
        model=folder.place.at(settings.model),
        choice=choice,
        batch_size=settings.batch_size,
        cpus=cpus,
        done=done,
        progress=progress,
    )


def _pool(settings: Score, state: RunState, bundle: Bundle) -> "tuple[Pool, Choice]":
    """The workers of the joined Ray, and what computes on one of them."""
    from btc_ray.scoring.distributed import choose_on_worker
    from btc_ray.workers.pool import Pool

    on_cpus = settings.engine == "openvino" or state.fingerprint.engine == "openvino"
    pool = Pool.of_cluster(
        use_gpus=settings.device in ("auto", "cuda") and not on_cpus,
        need_gpus=settings.device == "cuda",
        gpus_each=settings.gpus,
    )
    return pool, _choice(settings, state, bundle, partial(choose_on_worker, pool))


def _score_on_ray(
    folder: RunFolder,
    todo: Place,
    settings: Score,
    bundle: Bundle,
    pool: "Pool",
    choice: Choice,
    rows: int,
    inherited: Sequence[Place],
    progress: Progress,
) -> None:
    from btc_ray.scoring.distributed import EngineSettings, committed_ids, score_on_ray

    # Ray Data's own record of what it wrote, rather than the files: a kill between the two leaves a file that it takes back.
    done = np.union1d(staged_ids([*inherited, *_parts(folder.staged_here)]), committed_ids(folder))
    score_on_ray(
        folder,
        _parts(todo),
        engine=EngineSettings(bundle=bundle, model=folder.place.at(settings.model), choice=choice),
        pool=pool,
        rows=rows - len(done),
        done=done,
        batch_size=settings.batch_size,
        progress=progress,
    )


def _parts(*folders: Place) -> list[Place]:
    """The Parquet files in `folders`, in order of folder and name."""
    return [part for folder in folders for part in folder.files(".parquet")]


def _publish(folder: RunFolder, state: RunState) -> RunState:
    """Move the finished files into place and set the commit mark. Begun again after a kill, it ends the same."""
    folder.check()
    for name in ("summary.html", *REVIEW, EXAMS_PAGE, ANSWERS, RULE):  # they told of the rows before
        (folder.place / name).remove()
    assert state.finishing is not None
    folder.publish(state.finishing)
    state = state.changed(complete=True, finishing=None, retrying=None, finished=_now())
    check_whole(folder, state)
    state = folder.write_state(state)
    folder.clear_work()
    folder.sweep()
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
