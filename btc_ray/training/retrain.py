"""Retraining in three steps: what is given is prepared and checked, a network is fitted, and concluded into a bundle with a temperature,
thresholds and honest numbers.

Only jobs that use Ray load this module.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from btc_ray.dataset.table import shown_source
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, write_bundle
from btc_ray.model.int8.form import Int8Network
from btc_ray.model.int8.make import int8_form
from btc_ray.model.reference import Reference
from btc_ray.progress import say
from btc_ray.settings import Retrain
from btc_ray.storage import Place
from btc_ray.storage.tables import to_bytes
from btc_ray.training.calibration import cross_entropy, fit_temperature
from btc_ray.training.fit import Network, check_converged, fit, labelled_images, training_settings
from btc_ray.training.folds import OutOfFold, out_of_fold
from btc_ray.training.head import head_logits
from btc_ray.training.held_out import held_out_answers
from btc_ray.training.prepare import Prepared
from btc_ray.training.thresholds import choose_thresholds, fit_reference


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run came to: the bundle, one row per epoch and split (`epoch, split, loss, accuracy, learning_rate`), and
    how it and the champion see the held-out images.

    `labels`, `groups` int64 (N,); `probabilities`, `champion` float32 (N, classes) of the test images. With --folds there are none, and
    `out_of_fold` has every image.
    """

    bundle: Bundle
    history: list[dict[str, Any]]
    labels: np.ndarray
    groups: np.ndarray
    probabilities: np.ndarray
    champion: np.ndarray | None
    out_of_fold: OutOfFold | None = None


def retrain(settings: Retrain, prepared: Prepared, *, ray_session: Callable[[], AbstractContextManager[None]]) -> Trained:
    """Train and write the bundle. Raises SplitError and PoolError for what only the images and the cluster can tell."""
    with ray_session():
        images = labelled_images(settings, prepared)
        measured = out_of_fold(settings, prepared, images) if settings.folds else None
        network = fit(settings, prepared, images)
    return conclude(settings, prepared, network, measured)


def conclude(settings: Retrain, prepared: Prepared, network: Network, measured: OutOfFold | None = None) -> Trained:
    """Calibrate, choose thresholds, measure, and write the bundle. Raises DivergedError where the weights are not finite.

    Args:
        measured: what models of the same recipe said of images that they had not seen; the figures are then theirs.
    """
    check_converged(network)
    images = network.images
    logits = head_logits(network.state, network.features)
    validation, test = (images.of_one_class(images.rows(split)) for split in ("validation", "test"))
    temperature = fit_temperature(logits[validation], images.labels[validation])
    likely = softmax(logits[validation] / temperature, axis=1)
    reference, decision = _decision(settings, network, likely, measured)
    named = images.crops.rows["group"].drop_null()
    metrics = {"validation": _figures(logits[validation], images.labels[validation], temperature)}
    if measured is None:
        metrics["test"] = _figures(logits[test], images.labels[test], temperature)
    else:
        metrics["out_of_fold"] = measured.figures()
    bundle = write_bundle(
        Place(settings.output, settings.storage()),
        state=network.state,
        classes=images.classes,
        preprocess=prepared.preprocess,
        training=training_settings(settings) | {"best_epoch": network.fitted.epoch},
        data={
            "source": shown_source(prepared.table, settings.data).rstrip("/").rpartition("/")[2],
            "fingerprint": images.crops.fingerprint,
            "split": settings.split,
            "groups_of_copies": len(np.unique(images.copies)),
            "patients": len(named.unique()),
            "images_with_patient": len(named),
            **({} if measured is None else {"folds": settings.folds}),
            **images.counts(),
            **({} if prepared.answers is None else {"answers": prepared.answers}),
        },
        metrics=metrics,
        temperature=temperature,
        test_time_flips=settings.test_time_flips,
        decision=decision,
        reference=reference,
        int8=_int8(settings, prepared.preprocess, network, temperature, likely),
        parts={
            "metrics.parquet": to_bytes(pa.Table.from_pylist(network.fitted.history)),
            "split.parquet": to_bytes(images.table()),
            **({} if measured is None else {"out_of_fold.parquet": to_bytes(measured.table)}),
        },
        sign=settings.sign,
    )
    return Trained(
        bundle=bundle,
        history=network.fitted.history,
        labels=images.labels[test],
        groups=images.groups[test],
        probabilities=softmax(logits[test] / temperature, axis=1),
        champion=network.champion,
        out_of_fold=measured,
    )


def _figures(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, Any]:
    return {
        "images": len(labels),
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "loss": cross_entropy(logits, labels, temperature),
        "loss_uncalibrated": cross_entropy(logits, labels),
    }


def _decision(
    settings: Retrain, network: Network, likely: np.ndarray, measured: OutOfFold | None
) -> tuple[Reference | None, dict[str, Any]]:
    """What the model learned from, and the thresholds that rest on it; none where features have no spread. The confidence rests on the
    out-of-fold answers, where there are any: they are many more than the validation images."""
    images, learned = network.images, network.learned
    validation = images.of_one_class(images.rows("validation"))
    reference = fit_reference(network.features[learned], images.labels[learned], network.features[validation])
    if reference is None:
        say("The training images' features have no spread: nothing can be told about how strange an image is, or decided.")
        return None, {}
    around = images.crops.surround(validation)
    distance = reference.distance(network.features[validation])
    groups, named = images.groups[validation], images.crops.rows["group"].take(validation)
    patients = len(named) - named.null_count
    return reference, choose_thresholds(
        likely,
        distance,
        around,
        images.labels[validation],
        units=groups,
        unit=f"patient ({patients:,} of {len(named):,} images), else group of copies" if patients else "group of copies",
        target=settings.target_risk,
        out_of_fold=None if measured is None else held_out_answers(measured.table),
    )


def _int8(
    settings: Retrain, preprocess: Preprocess, network: Network, temperature: float, likely: np.ndarray
) -> tuple[Int8Network, dict[str, Any]] | None:
    """The network in 8 bits and how it agrees, where this machine can compute with it."""
    images = network.images
    unwritten = Bundle(
        classes=images.classes,
        model_id="",
        preprocess=preprocess.to_dict(),
        preprocess_id=preprocess.preprocess_id,
        temperature=temperature,
        test_time_flips=settings.test_time_flips,
    )
    validation = images.of_one_class(images.rows("validation"))
    return int8_form(unwritten, network.state, images.crops.pixels, network.learned, validation, likely, seed=settings.seed)
