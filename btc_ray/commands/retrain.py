"""The jobs that train: what is learned, then its figures, and whether it may take the champion's place."""

import json
from typing import Any

from btc_ray import settings, storage
from btc_ray.errors import CHAMPION_STAYS, COMPLETE
from btc_ray.training.gate import decide
from btc_ray.workers.session import ray_session


def retrain(chosen: settings.Retrain) -> int:
    """Train, draw the bundle's figures, and compare with the champion; 5 where there is one and it stays."""
    from btc_ray.reports.shared.figures import confusion_matrix, learning_curve
    from btc_ray.reports.shared.metrics import confusion_counts
    from btc_ray.training.retrain import retrain as run

    trained = run(chosen, ray_session=ray_session(chosen))
    bundle = trained.bundle
    confusion = confusion_counts(trained.labels, trained.probabilities.argmax(axis=1), len(bundle.classes))
    for name, picture in (
        ("learning_curve", learning_curve(trained.history)),
        ("confusion_test", confusion_matrix(confusion, bundle.classes)),
    ):
        storage.write_bytes(storage.join(chosen.output, "figures", f"{name}.png"), picture, chosen.storage())
    for split, metrics in bundle.metrics.items():
        print(f"{split:<12} accuracy {metrics['accuracy']:.4f}   loss {metrics['loss']:.4f}   {metrics['images']:,} images")
    print(f"model        {chosen.output}")
    return COMPLETE if trained.champion is None else _gate(chosen, trained)


def _gate(chosen: settings.Retrain, trained: Any) -> int:
    """Write gate.json beside the bundle and say what it says."""
    from btc_ray.reports.shared.metrics import compare

    comparison = compare(trained.labels, trained.champion, trained.probabilities, trained.groups)
    verdict = decide(comparison) | {"champion": storage.redact(chosen.champion or ""), "comparison": comparison}
    text = json.dumps(verdict | {"model_id": trained.bundle.model_id}, indent=2) + "\n"
    storage.write_bytes(storage.join(chosen.output, "gate.json"), text.encode(), chosen.storage())
    print(f"{verdict['decision']:<12} {verdict['reason']}")
    return COMPLETE if verdict["decision"] == "promote" else CHAMPION_STAYS
