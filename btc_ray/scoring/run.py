"""A scoring run from its inputs to its commit mark: freeze the manifest, score it here or on Ray, reconcile, publish."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS, storage
from btc_ray.archive.manifest import write_manifest
from btc_ray.errors import RefusedError
from btc_ray.model.bundle import Bundle, library_versions, read_bundle
from btc_ray.model.engines.choose import choose
from btc_ray.model.engines.engine import Choice, EngineError
from btc_ray.model.reference import thresholds_id
from btc_ray.progress import Progress, say
from btc_ray.scoring.finish import staged_ids, write_finished
from btc_ray.scoring.folder import REVIEW, RunFolder, same_inputs
from btc_ray.scoring.table import scores_schema
from btc_ray.settings import Score, to_dict
from btc_ray.storage import Place

if TYPE_CHECKING:
    from btc_ray.workers.pool import Pool

State = dict[str, Any]
RaySession = Callable[[], AbstractContextManager[None]]


def score(settings: Score, *, cpus: int, ray_session: RaySession) -> State:
    """Run or continue a scoring job; returns what `run.json` says at the end.

    `ray_session` joins Ray while it is entered; `cpus` are the threads of the in-process path. Raises RefusedError where the run
    folder belongs to something else, BundleError and ArchiveError for unusable arguments, IncompleteError where rows were lost.
    """
    model = Place(settings.model, settings.storage())
    bundle = read_bundle(model)
    folder = RunFolder(model.at(settings.output))
    with folder.locked():
        state = folder.read_state()
        if state is not None and state["manifest"] is None:
            state = None  # its inputs were never listed to the end: there is nothing to belong to
        if state is not None:
            _check_belongs(state, settings, bundle)
        elif settings.retry_failed:
            raise RefusedError(f"{settings.output} holds no complete run to retry: run the command without --retry-failed first.")
        if state is not None and state["complete"] and not settings.retry_failed:
            say(f"{settings.output} is complete already; its inputs were listed {state['manifest']['listed']}.")
            folder.clear_work()
            return state
        if state is None:
            state = _freeze_manifest(folder, settings, bundle)
        if settings.retry_failed:
            if state["complete"] and bad_fraction(state) == 0:
                say("Every row is ok; there is nothing to score again.")
                return state
            state = _begin_retry(folder, state)
        if state["finishing"] is None:
            state = _execute(folder, state, settings, bundle, cpus=cpus, ray_session=ray_session)
        return _publish(folder, state)


def bad_fraction(state: Mapping[str, Any]) -> float:
    """Share of the images that are not ok, 0 to 1."""
    rows = state["counts"]["rows"]
    return 1 - state["counts"]["status"].get("ok", 0) / rows if rows else 0.0


def _check_belongs(state: State, settings: Score, bundle: Bundle) -> None:
    now = _fingerprint(settings, bundle) | {"int8_id": bundle.int8.get("int8_id")}
    names = {
        "inputs": "other inputs",
        "model_id": "another model",
        "preprocess_id": "another preprocessing",
        "precision": "another precision",
        "engine": "another engine",
        "test_time_flips": "the same model with other test-time flips",
        "decision": "the same model with other thresholds",
        "int8_id": "the same model with other int8 weights",
    }
    for key, words in names.items():
        # Runs of before there was a choice have neither engine nor flips, and no thresholds.
        there = state["fingerprint"].get(key, {"engine": "torch", "test_time_flips": False}.get(key))
        if key in ("engine", "precision") and "auto" in (there, now[key]):
            continue  # auto goes on with what the run was begun with
        if key == "int8_id" and state["fingerprint"].get("precision") != "int8":
            continue  # not a row was computed with it
        if there != now[key]:
            raise RefusedError(
                f"{settings.output} belongs to {words}: {key} is {_short(there)} there and {_short(now[key])} now. "
                "Use another --output, or run the command it was begun with."
            )


def _short(value: Any) -> str:
    return ", ".join(value[:3]) + (", …" if len(value) > 3 else "") if isinstance(value, list) else str(value)


def _fingerprint(settings: Score, bundle: Bundle) -> dict[str, Any]:
    return {
        "inputs": same_inputs(settings.input),
        "model_id": bundle.model_id,
        "preprocess_id": bundle.preprocess_id,
        "test_time_flips": bundle.test_time_flips,
        "decision": thresholds_id(bundle.decision),
        "engine": settings.engine,
        "precision": settings.precision,
    }


def _freeze_manifest(folder: RunFolder, settings: Score, bundle: Bundle) -> State:
    """Write the manifest and the first `run.json`. A manifest that a killed run left unfinished is begun again."""
    state: State = {
        "kind": "score",
        "complete": False,
        "notice": NOT_FOR_DIAGNOSIS,
        "settings": to_dict(settings),
        "model_uri": storage.absolute(settings.model),
        "fingerprint": _fingerprint(settings, bundle),
        "classes": list(bundle.classes),
        "manifest": None,
        "generation": 0,
        "finishing": None,
        "sessions": [],
        "counts": None,
        "skipped": {},
        "versions": library_versions(),
    }
    folder.write_state(state)
    folder.manifest.remove()
    say("Listing the inputs …")
    summary = write_manifest(settings.input, folder.manifest, skipped=folder.skipped)
    listed = asdict(summary)
    state["skipped"] = listed.pop("skipped")
    state["manifest"] = {**listed, "listed": datetime.now(UTC).isoformat(timespec="seconds")}
    skipped = sum(reason["count"] for reason in state["skipped"].values())
    say(f"{summary.rows:,} images to score" + (f", {skipped:,} other files skipped." if skipped else "."))
    folder.write_state(state)
    return state


def _begin_retry(folder: RunFolder, state: State) -> State:
    """Write the rows that are not ok as the next thing to do; the published rows stay until better ones are finished."""
    if not state["complete"]:
        if state["generation"] == 0:
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
    (folder.todo / "part-00000.parquet").write_table(_second_chance(rows))
    state = {**state, "complete": False, "generation": state["generation"] + 1, "retrying": len(rows)}
    folder.write_state(state)
    return state


def _second_chance(rows: pa.Table) -> pa.Table:
    """What failed while listing may be readable by now; what is broken or unsupported in itself stays so."""
    failed = pc.fill_null(pc.equal(rows["problem_status"], "failed"), False)
    for name in ("problem_status", "problem"):
        cleared = pc.if_else(failed, pa.scalar(None, pa.string()), rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), cleared)
    return rows


def _execute(
    folder: RunFolder,
    state: State,
    settings: Score,
    bundle: Bundle,
    *,
    cpus: int,
    ray_session: RaySession,
) -> State:
    """Score what is to do, then reconcile and write the finished files."""
    todo = folder.manifest if state["generation"] == 0 else folder.todo
    rows = state["manifest"]["rows"] if state["generation"] == 0 else state["retrying"]
    staged = (folder.staged_here, folder.staged_ray)
    done = staged_ids(_parts(*staged))
    on_ray = settings.address is not None or rows >= settings.local_rows
    session: dict[str, Any] = {
        "path": "ray" if on_ray else "in-process",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if len(done):
        say(f"Continuing: {len(done):,} of {rows:,} images are done.")
    began = time.monotonic()
    if len(done) < rows:
        progress = Progress("Scoring", rows, done=len(done))
        if on_ray:
            with ray_session(), progress:
                pool, choice = _pool(settings, state, bundle)
                state = _computed_with(folder, state, choice, bundle)
                _score_on_ray(folder, todo, settings, bundle, pool, choice, rows, progress)
            session |= asdict(choice) | {"resources": {"CPU": pool.cpus, "GPU": pool.gpus * pool.gpus_each}}
        else:
            choice = _choice(settings, state, bundle, choose)
            state = _computed_with(folder, state, choice, bundle)
            with progress:
                _score_here(folder, todo, settings, bundle, choice, cpus, done, progress)
            session |= asdict(choice) | {"resources": {"CPU": cpus}}
    session |= {"seconds": round(time.monotonic() - began, 3), "images": rows - len(done)}
    sources = [*_parts(*staged), *(folder.score_parts() if state["generation"] else [])]
    names, counts = write_finished(folder, scores_schema(bundle), sources, generation=state["generation"])
    state = {
        **state,
        "finishing": names,
        "counts": counts.to_dict(),
        "sessions": [*state["sessions"], session],
    }
    folder.write_state(state)
    return state


def _choice(settings: Score, state: State, bundle: Bundle, choose: Callable[..., Choice]) -> Choice:
    """What computes: what the run was begun with, else what the settings ask for. Raises RefusedError where that is not here."""
    begun = {key: state["fingerprint"].get(key, "torch") for key in ("engine", "precision")}
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


def _computed_with(folder: RunFolder, state: State, choice: Choice, bundle: Bundle) -> State:
    """Write down what `auto` stood for, before the first row: a run that goes on elsewhere does not change its arithmetic."""
    fingerprint = state["fingerprint"] | {"engine": choice.engine, "precision": choice.precision}
    if choice.precision == "int8":
        fingerprint["int8_id"] = bundle.int8.get("int8_id")
    state = {**state, "fingerprint": fingerprint}
    folder.write_state(state)
    return state


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


def _pool(settings: Score, state: State, bundle: Bundle) -> "tuple[Pool, Choice]":
    """The workers of the joined Ray, and what computes on one of them."""
    from btc_ray.scoring.distributed import choose_on_worker
    from btc_ray.workers.pool import Pool

    on_cpus = settings.engine == "openvino" or state["fingerprint"].get("engine") == "openvino"
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
    progress: Progress,
) -> None:
    from btc_ray.scoring.distributed import EngineSettings, committed_ids, score_on_ray

    # Ray Data's own record of what it wrote, rather than the files: a kill between the two leaves a file that it takes back.
    done = np.union1d(staged_ids(_parts(folder.staged_here)), committed_ids(folder))
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


def _publish(folder: RunFolder, state: State) -> State:
    """Move the finished files into place and set the commit mark. Begun again after a kill, it ends the same."""
    for name in ("summary.html", *REVIEW):  # they told of the rows before
        (folder.place / name).remove()
    folder.publish(state["finishing"])
    state = {key: value for key, value in state.items() if key != "retrying"}
    state |= {"complete": True, "finishing": None, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    folder.write_state(state)
    folder.clear_work()
    return state
