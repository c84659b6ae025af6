"""Retraining in three steps: what is given is prepared and checked, a network is fitted, and concluded into a bundle with a temperature,
thresholds and honest numbers.

Only jobs that use Ray load this module.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax
from torch import Tensor

from btc_ray.dataset.crops import Crops, labelled_crops
from btc_ray.dataset.labelled import LabelledImages, load_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.images.surround import surround
from btc_ray.model.bundle import Bundle, read_weights, write_bundle
from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.int8.form import Int8Network
from btc_ray.model.int8.make import int8_form
from btc_ray.model.reference import Reference
from btc_ray.progress import say
from btc_ray.settings import Retrain, Training
from btc_ray.storage import Place, redact
from btc_ray.storage.tables import to_bytes
from btc_ray.training.augment import FLIPS
from btc_ray.training.calibration import cross_entropy, fit_temperature
from btc_ray.training.errors import DivergedError
from btc_ray.training.features import backbone_features, backbone_id, frozen_features
from btc_ray.training.head import feature_statistics, fit_head, fold_standardisation, head_logits
from btc_ray.training.loop import Examples
from btc_ray.training.prepare import Prepared
from btc_ray.training.thresholds import choose_thresholds, fit_reference
from btc_ray.training.trainer import Fitted, choose_scaling
from btc_ray.training.trainer import fit as fit_on_ray


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run came to: the bundle, one row per epoch and split (`epoch, split, loss, accuracy, learning_rate`), and
    how it and the champion see the held-out images.

    `labels`, `groups` int64 (N,); `probabilities`, `champion` float32 (N, classes) of the test images.
    """

    bundle: Bundle
    history: list[dict[str, Any]]
    labels: np.ndarray
    groups: np.ndarray
    probabilities: np.ndarray
    champion: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A fitted network and what it makes of the images.

    Attributes:
        state: of a torchvision ResNet18.
        fitted: the best epoch and the history of the training.
        learned: int64 positions of the training images, one of each group of copies.
        features: float32 (N, 512), what the head sees of the images learned from and held out; zeros for all others.
        champion: float32 (test images, classes), the champion's probabilities, or None without one.
    """

    state: Mapping[str, Tensor]
    fitted: Fitted
    images: LabelledImages
    learned: np.ndarray
    features: np.ndarray
    champion: np.ndarray | None


def retrain(settings: Retrain, prepared: Prepared, *, ray_session: Callable[[], AbstractContextManager[None]]) -> Trained:
    """Train and write the bundle. Raises SplitError and PoolError for what only the images and the cluster can tell."""
    with ray_session():
        network = fit(settings, prepared)
    return conclude(settings, prepared, network)


def fit(settings: Retrain, prepared: Prepared) -> Network:
    """Crop, split and train. Needs a Ray that is joined. Raises SplitError, and PoolError where the cluster is too small."""
    recipe, cache, network = settings.recipe(), prepared.cache, prepared.network
    scaling = choose_scaling(settings.workers)
    images = labelled_images(settings, prepared)
    state = dict(network.state_dict())
    name = run_name(settings, images, backbone_id(state))
    train = images.rows("train")
    if recipe.train == "head":
        flips = recipe.flips or settings.test_time_flips
        features = frozen_features(images.crops, state, flips=flips, cache=cache)
        mean, deviation = feature_statistics(features[train]) if recipe.standardise else (np.float32(0), np.float32(1))
        inputs, state = (features - mean) / deviation, dict(network.fc.state_dict())
    else:
        inputs = images.crops.pixels
        if recipe.head_first:
            say("Fitting the head to the frozen backbone's features …")
            first = shown_once(images, train)
            found = backbone_features(images.crops, state, row_ids=images.row_ids(first))[:, 0]
            network.fc.load_state_dict(fit_head(found, images.labels[first]))
            state = dict(network.state_dict())
    say(f"Training on {len(train):,} images, {recipe.epochs} epochs …")
    fitted = fit_on_ray(
        recipe,
        {split: examples(images, inputs, split) for split in ("train", "validation")},
        state,
        classes=len(images.classes),
        seed=settings.seed,
        name=name,
        folder=cache / "train",
        scaling=scaling,
        precision=settings.precision,
        tensorboard=_tensorboard(settings),
        mlflow=settings.mlflow,
    )
    learned = shown_once(images, train)
    wanted = np.union1d(learned, np.flatnonzero(np.isin(images.split, ("validation", "test"))))
    seen = np.zeros((len(images.labels), FEATURES), np.float32)
    if recipe.train == "head":
        network.fc.load_state_dict(fitted.state)
        fold_standardisation(network.fc, mean, deviation)
        seen[wanted] = features[wanted].mean(axis=1) if settings.test_time_flips else features[wanted, 0]
    else:
        network.load_state_dict(fitted.state)
        seen[wanted] = model_features(network.state_dict(), images.crops, images.row_ids(wanted), flips=settings.test_time_flips)
    return Network(
        state=network.state_dict(),
        fitted=fitted,
        images=images,
        learned=learned,
        features=seen,
        champion=None if prepared.champion is None else _champion_probabilities(settings, prepared, images),
    )


def conclude(settings: Retrain, prepared: Prepared, network: Network) -> Trained:
    """Calibrate, choose thresholds, measure, and write the bundle. Raises DivergedError where the weights are not finite."""
    losses = [row["loss"] for row in network.fitted.history]
    if not np.isfinite(losses).all() or not all(bool(tensor.isfinite().all()) for tensor in network.state.values()):
        raise DivergedError(
            "the training diverged: its loss or weights are no numbers any more, and no bundle was written. Try a lower --learning-rate."
        )
    images = network.images
    logits = head_logits(network.state, network.features)
    validation, test = images.rows("validation"), images.rows("test")
    temperature = fit_temperature(logits[validation], images.labels[validation])
    likely = softmax(logits[validation] / temperature, axis=1)
    reference, decision = _decision(network, likely)
    named = images.crops.rows["group"].drop_null()
    bundle = write_bundle(
        Place(settings.output, settings.storage()),
        state=network.state,
        classes=images.classes,
        preprocess=prepared.preprocess,
        training=training_settings(settings) | {"best_epoch": network.fitted.epoch},
        data={
            "source": settings.data.rstrip("/").rpartition("/")[2],
            "fingerprint": images.crops.fingerprint,
            "split": settings.split,
            "groups_of_copies": len(np.unique(images.copies)),
            "patients": len(named.unique()),
            "images_with_patient": len(named),
            **images.counts(),
            **({} if prepared.answers is None else {"answers": prepared.answers}),
        },
        metrics={
            name: {
                "images": len(rows),
                "accuracy": float((logits[rows].argmax(1) == images.labels[rows]).mean()),
                "loss": cross_entropy(logits[rows], images.labels[rows], temperature),
                "loss_uncalibrated": cross_entropy(logits[rows], images.labels[rows]),
            }
            for name, rows in (("validation", validation), ("test", test))
        },
        temperature=temperature,
        test_time_flips=settings.test_time_flips,
        decision=decision,
        reference=reference,
        int8=_int8(settings, prepared.preprocess, network, temperature, likely),
        parts={
            "metrics.parquet": to_bytes(pa.Table.from_pylist(network.fitted.history)),
            "split.parquet": to_bytes(images.table()),
        },
    )
    return Trained(
        bundle=bundle,
        history=network.fitted.history,
        labels=images.labels[test],
        groups=images.groups[test],
        probabilities=softmax(logits[test] / temperature, axis=1),
        champion=network.champion,
    )


def _decision(network: Network, likely: np.ndarray) -> tuple[Reference | None, dict[str, Any]]:
    """What the model learned from, and the thresholds that rest on it; none where features have no spread."""
    images, learned = network.images, network.learned
    reference = fit_reference(network.features[learned], images.labels[learned])
    if reference is None:
        say("The training images' features have no spread: nothing can be told about how strange an image is, or decided.")
        return None, {}
    validation = images.rows("validation")
    parts = np.array_split(validation, 1 + len(validation) // 1024)
    around = np.concatenate([surround(images.crops.pixels[part]) for part in parts])
    distance = reference.distance(network.features[validation])
    return reference, choose_thresholds(likely, distance, around, images.labels[validation])


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
    validation = images.rows("validation")
    return int8_form(unwritten, network.state, images.crops.pixels, network.learned, validation, likely, seed=settings.seed)


def model_features(state: Mapping[str, Tensor], crops: Crops, row_ids: np.ndarray, *, flips: bool) -> np.ndarray:
    """What the head of a model sees, float32 (N, 512); the mean over the four flips where it is to answer with theirs."""
    variants = FLIPS if flips else FLIPS[:1]
    return backbone_features(crops, state, row_ids=row_ids, variants=variants).mean(axis=1)


def labelled_images(settings: Training, prepared: Prepared) -> LabelledImages:
    """The images of a job that trains, with their sides. Needs a Ray that is joined. Raises SplitError."""
    return load_labelled(
        prepared.table,
        preprocess=prepared.preprocess,
        method=settings.split,
        validation=settings.validation,
        test=settings.test,
        seed=settings.seed,
        doubt=settings.drop_doubtful_crops,
        held=prepared.held,
        cache=prepared.cache,
    )


def examples(images: LabelledImages, inputs: np.ndarray, split: str) -> Examples:
    """The images of a split, or their features: `inputs` (N, …) in the order of `images`."""
    rows = images.rows(split)
    return Examples(inputs=inputs[rows], labels=images.labels[rows], copies=images.copies[rows])


def shown_once(images: LabelledImages, rows: np.ndarray) -> np.ndarray:
    """The first image of each group of copies among `rows`, in their order."""
    return rows[np.sort(np.unique(images.copies[rows], return_index=True)[1])]


def run_name(settings: Retrain, images: LabelledImages, weights: str) -> str:
    """The name of the Ray Train run: the same for the same images, sides, initial weights and settings that change the result.

    Ray Train takes up whatever state it finds under a name, so the name has to say everything.
    """
    sides = hashlib.sha256(images.split.tobytes() + images.copies.tobytes()).hexdigest()
    text = json.dumps([training_settings(settings), images.crops.fingerprint, sides, weights], sort_keys=True)
    return f"retrain-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def training_settings(settings: Retrain) -> dict[str, Any]:
    """The settings that change what is learned."""
    names = ("split", "validation", "test", "crop", "drop_doubtful_crops", "seed", "precision")
    return {
        "weights": redact(settings.weights),
        **{name: getattr(settings, name) for name in names},
        **asdict(settings.recipe()),
    }


def _tensorboard(settings: Retrain) -> str | None:
    output = Place(settings.output)
    if not output.is_local:
        say("No TensorBoard files: --output is not on this machine. metrics.parquet has the same figures at the end.")
        return None
    return str(output.path() / "tensorboard")


def _champion_probabilities(settings: Retrain, prepared: Prepared, images: LabelledImages) -> np.ndarray:
    """What the champion says of the test images: float32 (N, classes)."""
    champion = prepared.champion
    assert champion is not None
    assert settings.champion is not None
    crops = labelled_crops(prepared.table, preprocess=Preprocess.from_dict(champion.preprocess), cache=prepared.cache)
    state = read_weights(Place(settings.champion, settings.storage()), champion)
    features = model_features(state, crops, images.row_ids(images.rows("test")), flips=champion.test_time_flips)
    return softmax(head_logits(state, features) / champion.temperature, axis=1)
