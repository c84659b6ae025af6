"""`btc-ray evaluate`: score labelled images as at night, lay the scores beside the labels, and say what the numbers are worth."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.archive.reader import ByteReader
from btc_ray.dataset.check import say_classes
from btc_ray.dataset.data import read_data, shown_settings
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.several import membership, named_classes
from btc_ray.dataset.table import class_names, entries_of, fingerprint, hidden_series, read_labelled, shown_source
from btc_ray.errors import COMPLETE, TOO_MANY_BAD, UserError
from btc_ray.model.bundle import Bundle, library_versions, read_bundle, read_split
from btc_ray.model.bundle.card import model_card
from btc_ray.model.bundle.files import SPLIT
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.storage.outputs import check_output
from btc_ray.workers.session import available_cpus, ray_session

if TYPE_CHECKING:
    from btc_ray.reports.evaluation.sets import ImageSet, Truth
    from btc_ray.reports.evaluation.sources import Elsewhere
    from btc_ray.scoring.folder import RunFolder

PAGE, RECORD, ERRORS, INPUTS = "evaluation.html", "evaluation.json", "errors.parquet", "inputs"
CARD = "model_card"  # with .md after it, and a number where there are several
OURS = (PAGE, RECORD, ERRORS, INPUTS, f"{CARD}*.md", "figures", "run", "run-*", ".*")


class EvaluationError(UserError):
    """Bundles and labelled images that do not fit together."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A bundle to measure."""

    name: str
    place: Place
    bundle: Bundle
    split: pa.Table | None  # split.parquet, where the bundle has one
    run: str  # the name of its run folder in the output


def evaluate(chosen: settings.Evaluate) -> int:
    """Evaluate; 3 where more images of a run are not ok than `score` allows by default.

    Raises BundleError, LabelledDataError and EvaluationError for unusable arguments, OutputError and RefusedError where the output
    holds something else. With --fit-rule it is `fit_rule`, else with --run `evaluate_run`.
    """
    if chosen.fit_rule:
        from btc_ray.commands.fit_rule import fit_rule

        return fit_rule(chosen)
    if chosen.run is not None:
        from btc_ray.commands.evaluate_run import evaluate_run

        return evaluate_run(chosen, chosen.run)
    from btc_ray.reports.evaluation.record import assess, compare_sets, no_scores
    from btc_ray.reports.evaluation.sets import choose_sets, training_overlap
    from btc_ray.reports.evaluation.sources import Elsewhere, assess_sources
    from btc_ray.reports.shared.metrics import DEFINITIONS

    output = Place(chosen.output, chosen.storage())
    check_output(output, ours=OURS)
    models = _models(chosen)
    data = output.at(chosen.data)
    table = read_data(chosen)
    say_classes(table, data)
    table = with_patients(table, data, chosen.groups, keep_labels=chosen.keep_labels)
    for model in models:
        if not any(named_classes(label, model.bundle.classes) for label in set(table["label"].to_pylist())):
            raise EvaluationError(
                f"{chosen.data} has no image of a class that {model.place} knows "
                f"({', '.join(model.bundle.classes)}). Name its folders so."
            )
    tables = _elsewhere(chosen, models)
    elsewhere = Elsewhere.of(tables)
    records, errors, folders, worst = [], [], {}, 0.0
    given, source = [str(model.place) for model in models], shown_source(table, chosen.data)
    with ray_session(chosen)():
        truth = _truth(chosen, table)
        for model in models:
            overlap = None if model.split is None else training_overlap(truth, model.split)
            sets, missing = choose_sets(truth, overlap, model.bundle.data.get("split"), data=source, models=given)
            wanted = np.any([one.rows for one in sets], axis=0) if sets else np.zeros(len(table), bool)
            scores = no_scores(model.bundle)
            if wanted.any():
                folders[model.name], bad = _score(chosen, model, table.filter(pa.array(wanted)), model.run)
                scores, worst = pa.Table.from_batches(folders[model.name].score_batches()), max(worst, bad)
            say(f"Measuring {model.name} …")
            record, wrong = assess(truth, sets, missing, scores, model.bundle, name=model.name, overlap=overlap)
            record |= {"bundle": str(model.place), "run": model.run if wanted.any() else None, "external": []}
            named = _by_source(table, truth, sets)
            record["by_source"] = [] if named is None else assess_sources(named, scores, model.bundle)
            if tables:
                run, bad = _score(chosen, model, pa.concat_tables(tables.values()), f"{model.run}-external")
                external, worst = pa.Table.from_batches(run.score_batches()), max(worst, bad)
                record["external"] = assess_sources(elsewhere, external, model.bundle, trained_on=_trained_on(model))
            records.append(record)
            errors.append(wrong)
    record = {
        "kind": "evaluation",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": compare_sets(records),
        "data": _data(chosen, table, truth),
        "models": records,
        "definitions": DEFINITIONS,
        "versions": library_versions(),
        "settings": shown_settings(chosen, table),
    }
    record["facts"] = _facts(record)
    _write(output, record, pa.concat_tables(errors), folders, hidden_series(table))
    _write_cards(output, models, records)
    _print(record, output)
    return TOO_MANY_BAD if worst > settings.Score.max_bad_fraction else COMPLETE


def _models(chosen: settings.Evaluate) -> list[_Model]:
    """The bundles, each by the shortest end of its path that tells it from the others."""
    places = [Place(uri.rstrip("/"), chosen.storage()) for uri in chosen.model]
    parts = [str(place.absolute()).split("/") for place in places]
    deep = next((depth for depth in range(1, 5) if len({tuple(part[-depth:]) for part in parts}) == len(parts)), 1)
    names = ["/".join(part[-deep:]) for part in parts]
    models = []
    for number, (place, name) in enumerate(zip(places, names, strict=True), start=1):
        bundle = read_bundle(place)
        split = read_split(place, bundle)
        if split is not None and (lacking := {"uri", "content_sha256", "split", "group"} - set(split.column_names)):
            raise EvaluationError(f"{place / SPLIT} has no column {' and '.join(sorted(lacking))}; train the bundle again.")
        name = f"{name} ({number})" if names.count(name) > 1 else name
        models.append(
            _Model(name=name, place=place, bundle=bundle, split=split, run="run" if len(places) == 1 else f"run-{number}")
        )
    return models


def _truth(chosen: settings.Evaluate, table: pa.Table) -> "Truth":
    """Labels, groups and hashes of all rows of `table`; a file that could not be read is a group of its own."""
    from btc_ray.dataset.copies import join_groups
    from btc_ray.dataset.crops import labelled_crops
    from btc_ray.dataset.groups import without_common_class
    from btc_ray.dataset.labelled import COMPARED, copy_groups
    from btc_ray.reports.evaluation.sets import Truth

    cache = Place(chosen.cache_uri(), chosen.storage())
    copies = copy_groups(table, cache=cache)
    crops = labelled_crops(table, preprocess=COMPARED, cache=cache).rows
    contents = np.full(len(table), None, object)
    contents[np.searchsorted(table["row_id"].to_numpy(), crops["row_id"].to_numpy())] = crops["content_sha256"].to_pylist()
    labels = table["label"].to_pylist()
    names, place = np.unique(labels, return_inverse=True)
    return Truth(
        uri=np.array(table["uri"].to_pylist(), object),
        label=np.array(labels, object),
        content_sha256=contents,
        group=join_groups(copies, table["group"].to_pylist()),
        published_test=np.array([split == "test" for split in table["split"].to_pylist()], bool),
        contradicting=without_common_class(copies, membership(names.tolist(), class_names(table))[place]),
    )


def _elsewhere(chosen: settings.Evaluate, models: Sequence[_Model]) -> dict[str, pa.Table]:
    """The labelled images of --external by name. Raises EvaluationError where no model knows a label of a set."""
    from btc_ray.dataset.meaning import classes_meant

    tables = {}
    for name, uri in chosen.elsewhere().items():
        data = Place(uri, chosen.storage())
        say(f"--external {name}:")
        tables[name] = read_labelled(data, least_classes=1, follow_links=chosen.follow_links)
        say_classes(tables[name], data)
        labels = sorted(set(tables[name]["label"].to_pylist()))
        if not any(classes_meant(label, model.bundle.classes) for label in labels for model in models):
            raise EvaluationError(
                f"--external {name}: no label of {data} ({', '.join(labels[:5])}) is a class of a model, or several "
                "(glioma|pituitary), or tumour, or notumor. Name its folders so."
            )
    return tables


def _by_source(table: pa.Table, truth: "Truth", sets: "Sequence[ImageSet]") -> "Elsewhere | None":
    """The images of the set to believe that name their source; None where none does."""
    from btc_ray.reports.evaluation.sets import BELIEVED
    from btc_ray.reports.evaluation.sources import Elsewhere

    source = np.array(table["source"].to_pylist(), object)
    chosen = min(sets, key=lambda one: BELIEVED.index(one.key), default=None)
    if chosen is None or not (rows := chosen.rows & pc.is_valid(table["source"]).to_numpy()).any():
        return None
    return Elsewhere(uri=truth.uri[rows], label=truth.label[rows], source=source[rows], group=truth.group[rows])


def _trained_on(model: _Model) -> frozenset[str]:
    """sha256 of the files that a model learned from, as far as its bundle records them."""
    if model.split is None:
        return frozenset()
    learned = pc.is_in(model.split["split"], pa.array(["train", "validation"]))
    return frozenset(model.split["content_sha256"].filter(learned).drop_null().to_pylist())


def _score(chosen: settings.Evaluate, model: _Model, rows: pa.Table, name: str) -> tuple["RunFolder", float]:
    """`btc-ray score` of these rows into the run folder `name`; the folder, and the share that is not ok."""
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.run import score as run

    # The list is named by what it holds: other images, or changed ones, are other inputs, which a begun run refuses.
    text = repr(rows.select(["uri", "size", "modified"]).to_pylist())
    listed = f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.parquet"
    output = Place(chosen.output, chosen.storage()).absolute()
    inputs = output / INPUTS / listed
    inputs.write_table(pa.table({"uri": pc.unique(rows["uri"])}))
    say(f"Scoring {len(rows):,} images with {model.name} …")
    job = settings.Score(
        model=model.place.uri,
        input=(inputs.uri,),
        output=(Place(chosen.output) / name).uri,
        address=chosen.address or os.environ.get("RAY_ADDRESS") or None,
        cpus=chosen.cpus,
        engine=chosen.engine,
        device=chosen.device,
        precision=chosen.precision,
        storage_options=chosen.storage_options,
        debug=chosen.debug,
    )
    # Slices are scored as they were labelled, whatever their series would be chosen for by themselves.
    entries = None if rows["kind"].null_count == len(rows) else entries_of(rows)
    state = run(job, cpus=chosen.cpus or available_cpus(), ray_session=ray_session(chosen), entries=entries)
    return RunFolder(output.at(job.output)), state.counts.bad_fraction if state.counts else 0.0


def _data(chosen: settings.Evaluate, table: pa.Table, truth: "Truth") -> dict[str, Any]:
    """What is in the labelled data."""
    groups, sizes = np.unique(truth.group, return_counts=True)
    return {
        "source": shown_source(table, chosen.data),
        "fingerprint": fingerprint(table),
        "images": len(table),
        "readable": int(truth.readable().sum()),
        "classes": dict(sorted(Counter(truth.label.tolist()).items())),
        "published_test": int(truth.published_test.sum()),
        "groups": len(groups),
        "in_groups_of_several": int(sizes[sizes > 1].sum()),
        "contradicting_labels": int(truth.contradicting.sum()),
    }


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """The facts of the evaluation as the page shows them."""
    data = record["data"]
    return {
        "When": record["created"],
        "Data": data["source"],
        "Data fingerprint": data["fingerprint"],
        "Images": f"{data['images']:,}, of which {data['images'] - data['readable']:,} cannot be read",
        "Classes": ", ".join(f"{count:,} {name}" for name, count in data["classes"].items()),
        "Published test images": f"{data['published_test']:,}",
        "Groups": f"{data['groups']:,}; {data['in_groups_of_several']:,} images share theirs with another",
        "Contradicting labels": f"{data['contradicting_labels']:,} images have a copy with another label",
    }


def _write(
    output: Place, record: Mapping[str, Any], errors: pa.Table, folders: Mapping[str, "RunFolder"], hidden: Collection[str]
) -> None:
    """The files of an evaluation; the page, which tells of all others, comes last."""
    from btc_ray.reports.evaluation.page import evaluation_figures, write_evaluation
    from btc_ray.scoring.pictures import Pictures

    say("Writing the page …")
    (output / PAGE).remove()  # it told of the numbers before
    (output / "figures").remove()
    (output / ERRORS).write_table(errors)
    for name, picture in evaluation_figures(record).items():
        (output / "figures" / name).write(picture)
    (output / RECORD).write_json(record)
    reader = ByteReader(output.options)
    readers = {name: Pictures(folder, reader, hidden=hidden) for name, folder in folders.items()}
    page = write_evaluation(record, errors.to_pylist(), readers)
    (output / PAGE).write(page.encode())


def _write_cards(output: Place, models: Sequence[_Model], records: Sequence[Mapping[str, Any]]) -> None:
    """The card of each model with what was found on other sources, where any is named; that in the bundle stays as it was published."""
    for number, (model, record) in enumerate(zip(models, records, strict=True), start=1):
        card = output / (f"{CARD}.md" if len(models) == 1 else f"{CARD}-{number}.md")
        card.remove()
        if elsewhere := [*record["by_source"], *record["external"]]:
            card.write(model_card(model.bundle, elsewhere).encode())


def _print(record: Mapping[str, Any], output: Place) -> None:
    """The numbers and where the rest is, on stdout."""
    from btc_ray.reports.evaluation.sources import in_words

    for model in record["models"]:
        print(f"{model['name']} (model_id {model['model_id']})")
        for one in model["sets"]:
            found, images = one["metrics"]["accuracy"], one["metrics"]["images"]
            value = "–" if found["value"] is None else f"{found['value']:.4f}"
            interval = "" if found["low"] is None else f" ({found['low']:.4f} to {found['high']:.4f})"
            print(f"  {one['title']}: accuracy {value}{interval}, {images:,} images; {'; '.join(one['remarks'])}")
        for one in (*model["by_source"], *model["external"]):
            print(f"  from {in_words(one)}")
        for gap in model["missing"]:
            print(f"  {gap['title']}: not to be had: {gap['reason']}")
    print(record["verdict"]["headline"])
    print(record["verdict"]["text"])
    print(f"page         {output / PAGE}")
    print(f"numbers      {output / RECORD}")
