"""`btc-ray retrain`: what is learned, then its figures, and whether it may take the champion's place."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.archive.reader import ByteReader
from btc_ray.errors import CHAMPION_STAYS, COMPLETE
from btc_ray.storage import Place
from btc_ray.training.gate import decide
from btc_ray.workers.session import ray_session

FOLDS_PAGE, FOLDS_RECORD = "folds.html", "folds.json"


def retrain(chosen: settings.Retrain) -> int:
    """Train, draw the bundle's figures, and compare with the champion; 5 where there is one and it stays."""
    from btc_ray.training.prepare import prepare_retrain

    prepared = prepare_retrain(
        chosen
    )  # whatever can be wrong is found before the first image is read, and before more is imported
    from btc_ray.reports.shared.figures import confusion_matrix, learning_curve
    from btc_ray.reports.shared.metrics import confusion_counts
    from btc_ray.training.retrain import retrain as run

    output = Place(chosen.output, chosen.storage())
    trained = run(chosen, prepared, ray_session=ray_session(chosen))
    bundle, measured = trained.bundle, trained.out_of_fold.of_one_class if trained.out_of_fold else trained
    confusion = confusion_counts(measured.labels, measured.probabilities.argmax(axis=1), len(bundle.classes))
    for name, picture in (
        ("learning_curve", learning_curve(trained.history)),
        (
            "confusion_test" if trained.out_of_fold is None else "confusion_out_of_fold",
            confusion_matrix(confusion, bundle.classes),
        ),
    ):
        (output / "figures" / f"{name}.png").write(picture)
    for split, metrics in bundle.metrics.items():
        print(f"{split:<12} accuracy {metrics['accuracy']:.4f}   loss {metrics['loss']:.4f}   {metrics['images']:,} images")
    if trained.out_of_fold is not None:
        _folds(chosen, prepared, trained)
    else:
        for name in (FOLDS_PAGE, FOLDS_RECORD, "figures/confusion_out_of_fold.png"):
            (output / name).remove()  # of a bundle that was here before
    print(f"model        {output}")
    return COMPLETE if trained.champion is None else _gate(chosen, trained)


def _folds(chosen: settings.Retrain, prepared: Any, trained: Any) -> None:
    """Write folds.json and the page beside the bundle, and say what they say."""
    from btc_ray.model.bundle import library_versions
    from btc_ray.reports.evaluation.folds import fold_record
    from btc_ray.reports.evaluation.page import write_evaluation
    from btc_ray.reports.evaluation.sources import in_words
    from btc_ray.reports.shared.metrics import DEFINITIONS

    output, answers = Place(chosen.output, chosen.storage()), trained.out_of_fold
    name = f"{len(answers.folds)} models of one recipe"
    folds = [asdict(fold) for fold in answers.folds]
    found, errors = fold_record(answers.table, answers.logits, answers.probabilities, folds, trained.bundle, name=name)
    model = found.pop("model") | {"bundle": str(output), "run": None}
    record = {
        "kind": "folds",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **found,
        "models": [model],
        "facts": {
            "Data": chosen.data,
            "Patients from": chosen.groups or "the data itself",
            "Images": f"{len(answers.table):,} measured, of {len(prepared.table):,} listed",
            "Bundle": f"{trained.bundle.model_id}, trained on all of them afterwards",
        },
        "definitions": DEFINITIONS,
        "versions": library_versions(),
        "settings": settings.to_dict(chosen),
    }
    reader, listed = ByteReader(output.options), prepared.table
    (output / FOLDS_RECORD).write_json(record)
    page = write_evaluation(
        record, errors.to_pylist(), {name: lambda row: reader.read(listed.slice(row["row_id"], 1).to_pylist()[0])}
    )
    (output / FOLDS_PAGE).write(page.encode())
    print(f"{found['verdict']['headline']}. {found['verdict']['text']}")
    for one in model["by_source"]:
        print(f"  {in_words(one)}")
    print(f"page         {output / FOLDS_PAGE}")


def _gate(chosen: settings.Retrain, trained: Any) -> int:
    """Write gate.json beside the bundle and say what it says."""
    from btc_ray.reports.shared.metrics import compare_models

    comparison = compare_models(trained.labels, trained.champion, trained.probabilities, trained.groups)
    verdict = decide(comparison) | {"champion": chosen.champion, "comparison": comparison}
    (Place(chosen.output, chosen.storage()) / "gate.json").write_json(verdict | {"model_id": trained.bundle.model_id}, indent=2)
    print(f"{verdict['decision']:<12} {verdict['reason']}")
    return COMPLETE if verdict["decision"] == "promote" else CHAMPION_STAYS
