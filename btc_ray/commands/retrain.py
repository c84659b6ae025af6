"""`btc-ray retrain`: what is learned, then its figures, and whether it may take the champion's place."""

from typing import Any

from btc_ray import settings
from btc_ray.errors import CHAMPION_STAYS, COMPLETE
from btc_ray.model.bundle.signature import sign_bundle
from btc_ray.storage import Place
from btc_ray.training.gate import decide
from btc_ray.workers.session import ray_session


def retrain(chosen: settings.Retrain) -> int:
    """Train, draw the bundle's figures, and compare with the champion; 5 where there is one and it stays."""
    from btc_ray.training.prepare import prepare_retrain

    prepared = prepare_retrain(
        chosen
    )  # whatever can be wrong is found before the first image is read, and before more is imported
    from btc_ray.reports.shared.figures import confusion_matrix, learning_curve
    from btc_ray.reports.shared.metrics import confusion_counts
    from btc_ray.training.retrain import retrain as run

    trained = run(chosen, prepared, ray_session=ray_session(chosen))
    output = Place(chosen.output, chosen.storage())
    bundle = trained.bundle
    if chosen.sign:
        sign_bundle(output, chosen.sign)
    confusion = confusion_counts(trained.labels, trained.probabilities.argmax(axis=1), len(bundle.classes))
    for name, picture in (
        ("learning_curve", learning_curve(trained.history)),
        ("confusion_test", confusion_matrix(confusion, bundle.classes)),
    ):
        (output / "figures" / f"{name}.png").write(picture)
    for split, metrics in bundle.metrics.items():
        print(f"{split:<12} accuracy {metrics['accuracy']:.4f}   loss {metrics['loss']:.4f}   {metrics['images']:,} images")
    print(f"model        {output}")
    return COMPLETE if trained.champion is None else _gate(chosen, trained)


def _gate(chosen: settings.Retrain, trained: Any) -> int:
    """Write gate.json beside the bundle and say what it says."""
    from btc_ray.reports.shared.metrics import compare_models

    comparison = compare_models(trained.labels, trained.champion, trained.probabilities, trained.groups)
    verdict = decide(comparison) | {"champion": chosen.champion, "comparison": comparison}
    (Place(chosen.output, chosen.storage()) / "gate.json").write_json(verdict | {"model_id": trained.bundle.model_id}, indent=2)
    print(f"{verdict['decision']:<12} {verdict['reason']}")
    return COMPLETE if verdict["decision"] == "promote" else CHAMPION_STAYS
