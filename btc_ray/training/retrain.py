"""Retraining: labelled images → crops → groups and splits → training → model bundle with a temperature and honest numbers."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from btc_ray import storage
from btc_ray.dataset.crops import Crops, labelled_crops
from btc_ray.dataset.labelled import LabelledImages, kept_splits, load_labelled
from btc_ray.dataset.table import read_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.images.surround import surround
from btc_ray.model.bundle import Bundle, read_bundle, read_weights, write_bundle
from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.int8.make import int8_form
from btc_ray.model.weights import initial_network
from btc_ray.progress import say
from btc_ray.settings import Retrain, Training
from btc_ray.storage.tables import read_table, to_bytes
from btc_ray.training.augment import FLIPS
from btc_ray.training.calibration import cross_entropy, fit_temperature
from btc_ray.training.features import backbone_features, backbone_id, frozen_features
from btc_ray.training.gate import ChampionError
from btc_ray.training.loop import Examples
from btc_ray.training.thresholds import choose_thresholds, fit_reference
from btc_ray.training.trainer import fit

HEAD_PENALTY = 0.01  # C of the logistic regression that a head begins with


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


def retrain(settings: Retrain, *, ray_session: Callable[[], AbstractContextManager[None]]) -> Trained:
    """Train and write the bundle. Raises LabelledDataError, SplitError, WeightsError, ChampionError for unusable arguments."""
    options, recipe, cache = settings.storage(), settings.recipe(), storage.absolute(settings.cache_uri())
    table = read_labelled(settings.data, options)
    preprocess = Preprocess(crop=settings.crop, size=settings.image_size())
    champion, held = _champion(settings)
    with ray_session():
        images = labelled_images(settings, table, preprocess, held=held)
        if champion is not None and champion.classes != images.classes:
            raise ChampionError(f"the champion tells {', '.join(champion.classes)} apart, the data {', '.join(images.classes)}.")
        network = initial_network(settings.weights, len(images.classes), seed=settings.seed, storage_options=options)
        name = run_name(settings, images, backbone_id(network.state_dict()))
        state = dict(network.state_dict())
        if recipe.train == "head":
            flips = recipe.flips or settings.test_time_flips
            features = frozen_features(images.crops, state, flips=flips, cache=cache, storage_options=options)
            mean, deviation = moments(features[images.rows("train")]) if recipe.standardise else (np.float32(0), np.float32(1))
            inputs, state = (features - mean) / deviation, dict(network.fc.state_dict())
        else:
            inputs = images.crops.pixels
            if recipe.head_first:
                say("Fitting the head to the frozen backbone's features …")
                first = shown_once(images, images.rows("train"))
                found = backbone_features(images.crops, state, row_ids=images.row_ids(first), storage_options=options)[:, 0]
                network.fc.load_state_dict(fit_head(found, images.labels[first]))
                state = dict(network.state_dict())
        say(f"Training on {len(images.rows('train')):,} images, {recipe.epochs} epochs …")
        fitted = fit(
            recipe,
            {split: examples(images, inputs, split) for split in ("train", "validation")},
            state,
            classes=len(images.classes),
            seed=settings.seed,
            name=name,
            folder=storage.join(cache, "train"),
            storage_options=options,
            workers=settings.workers,
            precision=settings.precision,
            tensorboard=_tensorboard(settings),
            mlflow=settings.mlflow,
        )
        learned, measured = shown_once(images, images.rows("train")), np.isin(images.split, ("validation", "test"))
        wanted = np.union1d(learned, np.flatnonzero(measured))
        seen = np.zeros((len(images.labels), FEATURES), np.float32)
        if recipe.train == "head":
            network.fc.load_state_dict(fitted.state)
            fold_standardisation(network.fc, mean, deviation)
            seen[wanted] = features[wanted].mean(axis=1) if settings.test_time_flips else features[wanted, 0]
        else:
            network.load_state_dict(fitted.state)
            row_ids = images.row_ids(wanted)
            seen[wanted] = seen_by(network.state_dict(), images.crops, row_ids, flips=settings.test_time_flips, options=options)
        logits = head_logits(network.state_dict(), seen)
        beaten = None if champion is None else _champion_probabilities(settings, champion, table, images, cache)
    validation, test = images.rows("validation"), images.rows("test")
    temperature = fit_temperature(logits[validation], images.labels[validation])
    likely = softmax(logits[validation] / temperature, axis=1)
    reference = fit_reference(seen[learned], images.labels[learned])
    if reference is None:
        say("The training images' features have no spread: nothing can be told about how strange an image is, or decided.")
        decision = {}
    else:
        parts = np.array_split(validation, 1 + len(validation) // 1024)
        around = np.concatenate([surround(images.crops.pixels[part]) for part in parts])
        decision = choose_thresholds(likely, reference.distance(seen[validation]), around, images.labels[validation])
    unwritten = Bundle(
        classes=images.classes,
        model_id="",
        preprocess=preprocess.to_dict(),
        preprocess_id=preprocess.preprocess_id,
        temperature=temperature,
        test_time_flips=settings.test_time_flips,
    )
    int8 = int8_form(unwritten, network.state_dict(), images.crops.pixels, learned, validation, likely, seed=settings.seed)
    bundle = write_bundle(
        settings.output,
        state=network.state_dict(),
        classes=images.classes,
        preprocess=preprocess,
        training=told(settings) | {"best_epoch": fitted.epoch},
        data={
            "source": settings.data.rstrip("/").rpartition("/")[2],
            "fingerprint": images.crops.fingerprint,
            "split": settings.split,
            "groups_of_copies": len(np.unique(images.copies)),
            **images.counts(),
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
        int8=int8,
        parts={
            "metrics.parquet": to_bytes(pa.Table.from_pylist(fitted.history)),
            "split.parquet": to_bytes(images.table()),
        },
        storage_options=options,
    )
    return Trained(
        bundle=bundle,
        history=fitted.history,
        labels=images.labels[test],
        groups=images.groups[test],
        probabilities=softmax(logits[test] / temperature, axis=1),
        champion=beaten,
    )


def seen_by(
    state: Mapping[str, Tensor], crops: Crops, row_ids: np.ndarray, *, flips: bool, options: Mapping[str, str]
) -> np.ndarray:
    """What the head of a model sees, float32 (N, 512); the mean over the four flips where it is to answer with theirs."""
    variants = FLIPS if flips else FLIPS[:1]
    return backbone_features(crops, state, row_ids=row_ids, variants=variants, storage_options=options).mean(axis=1)


def labelled_images(
    settings: Training, table: pa.Table, preprocess: Preprocess, *, held: Mapping[str, str] | None = None
) -> LabelledImages:
    """The images of a job that trains, with their sides. Needs a Ray that is joined. Raises SplitError."""
    return load_labelled(
        table,
        preprocess=preprocess,
        method=settings.split,
        validation=settings.validation,
        test=settings.test,
        seed=settings.seed,
        doubt=settings.drop_doubtful_crops,
        held=held,
        cache=storage.absolute(settings.cache_uri()),
        storage_options=settings.storage(),
    )


def examples(images: LabelledImages, inputs: np.ndarray, split: str) -> Examples:
    """The images of a split, or their features: `inputs` (N, …) in the order of `images`."""
    rows = images.rows(split)
    return Examples(inputs=inputs[rows], labels=images.labels[rows], copies=images.copies[rows])


def shown_once(images: LabelledImages, rows: np.ndarray) -> np.ndarray:
    """The first image of each group of copies among `rows`, in their order."""
    return rows[np.sort(np.unique(images.copies[rows], return_index=True)[1])]


def fit_head(features: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    """The last layer of a regularised logistic regression on float32 (N, 512) features, as its state dict."""
    mean, deviation = moments(features[:, None])
    found = LogisticRegression(C=HEAD_PENALTY, max_iter=500).fit((features - mean) / deviation, labels)
    head = nn.Linear(features.shape[1], len(found.classes_))
    weight, bias = found.coef_, found.intercept_
    if len(weight) == 1:  # of two classes scikit-learn keeps the second's alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head.load_state_dict({"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()})
    fold_standardisation(head, mean, deviation)
    return {name: tensor.detach() for name, tensor in head.state_dict().items()}


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over images and flips: float32 (512,) each; a constant one has deviation 1."""
    mean, deviation = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    return mean, np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def fold_standardisation(head: nn.Linear, mean: np.ndarray | np.float32, deviation: np.ndarray | np.float32) -> None:
    """Make a head of standardised features one of plain features, in place: W (x − m) / d + b = (W / d) x + (b − (W / d) m)."""
    with torch.no_grad():
        head.weight.div_(torch.as_tensor(deviation))
        head.bias.sub_((head.weight * torch.as_tensor(mean)).sum(dim=1))


def head_logits(state: Mapping[str, Tensor], features: np.ndarray) -> np.ndarray:
    """float32 (N, classes) of float32 (N, 512)."""
    return features @ state["fc.weight"].detach().cpu().numpy().T + state["fc.bias"].detach().cpu().numpy()


def run_name(settings: Retrain, images: LabelledImages, weights: str) -> str:
    """The name of the Ray Train run: the same for the same images, sides, initial weights and settings that change the result.

    Ray Train takes up whatever state it finds under a name, so the name has to say everything.
    """
    sides = hashlib.sha256(images.split.tobytes() + images.copies.tobytes()).hexdigest()
    text = json.dumps([told(settings), images.crops.fingerprint, sides, weights], sort_keys=True)
    return f"retrain-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def told(settings: Retrain) -> dict[str, Any]:
    """The settings that change what is learned."""
    names = ("split", "validation", "test", "crop", "drop_doubtful_crops", "seed", "precision")
    return {
        "weights": storage.redact(settings.weights),
        **{name: getattr(settings, name) for name in names},
        **asdict(settings.recipe()),
    }


def _tensorboard(settings: Retrain) -> str | None:
    if not storage.is_local(settings.output):
        say("No TensorBoard files: --output is not on this machine. metrics.parquet has the same figures at the end.")
        return None
    return storage.join(storage.local_path(settings.output), "tensorboard")


def _champion(settings: Retrain) -> tuple[Bundle | None, dict[str, str] | None]:
    """The bundle to beat and, by content_sha256, on which side the images stood that it knew. Raises ChampionError, BundleError."""
    if settings.champion is None:
        return None, None
    if storage.absolute(settings.champion).rstrip("/") == storage.absolute(settings.output).rstrip("/"):
        raise ChampionError("--champion and --output are the same folder: the champion would be replaced before it was beaten.")
    if settings.split != "group":
        raise ChampionError(
            "--champion needs --split group: the published test images have copies that both models learned from."
        )
    bundle = read_bundle(settings.champion, settings.storage())
    uri = storage.join(settings.champion, "split.parquet")
    if not storage.exists(uri, settings.storage()):
        raise ChampionError(
            f"{settings.champion} has no split.parquet, so nobody knows which images it learned from; train it again."
        )
    return bundle, kept_splits(read_table(uri, settings.storage()))


def _champion_probabilities(
    settings: Retrain, champion: Bundle, table: pa.Table, images: LabelledImages, cache: str
) -> np.ndarray:
    """What the champion says of the test images: float32 (N, classes)."""
    assert settings.champion is not None
    options = settings.storage()
    crops = labelled_crops(table, preprocess=Preprocess.from_dict(champion.preprocess), cache=cache, storage_options=options)
    state = read_weights(settings.champion, champion, options)
    test = images.row_ids(images.rows("test"))
    features = seen_by(state, crops, test, flips=champion.test_time_flips, options=options)
    return softmax(head_logits(state, features) / champion.temperature, axis=1)
