"""One network fitted to one split of labelled images: what it begins with, its run on Ray Train, and what it makes of the images.

Only jobs that use Ray load this module.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor

from btc_ray.dataset.crops import Crops, labelled_crops
from btc_ray.dataset.labelled import LabelledImages, load_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import read_weights
from btc_ray.model.engines.folding import FEATURES, POOLED
from btc_ray.progress import say
from btc_ray.settings import Retrain, Training
from btc_ray.storage import Place, redact
from btc_ray.training.augment import FLIPS
from btc_ray.training.errors import DivergedError
from btc_ray.training.features import backbone_features, backbone_id
from btc_ray.training.head import feature_statistics, fit_head, fold_standardisation, head_logits
from btc_ray.training.here import fit_here, is_short
from btc_ray.training.kept_features import frozen_features
from btc_ray.training.loop import Examples
from btc_ray.training.prepare import Prepared
from btc_ray.training.trainer import Fitted, Task, choose_scaling
from btc_ray.training.trainer import fit as fit_on_ray


@dataclass(frozen=True, kw_only=True)
class Network:
    """A fitted network and what it makes of the images.

    Attributes:
        state: of a torchvision ResNet18.
        fitted: the best epoch and the history of the training.
        learned: int64 positions of the training images whose label names one class, one of each group of copies.
        features: float32 (N, 960), what the four stages make of the images learned from and held out, pooled, the last of which the
            head sees; zeros for all others.
        champion: float32 (test images, classes), the champion's probabilities, or None without one.
    """

    state: Mapping[str, Tensor]
    fitted: Fitted
    images: LabelledImages
    learned: np.ndarray
    features: np.ndarray
    champion: np.ndarray | None


def fit(settings: Retrain, prepared: Prepared, images: LabelledImages, *, part: str = "") -> Network:
    """Train on the images' training side, from the initial weights of `prepared`, which stay as they are. Needs a Ray that is joined.
    Raises PoolError where the cluster is too small.

    A killed training goes on at its last epoch when it is started again on the same sides with the same settings.

    Args:
        part: what TensorBoard's folder and MLflow's run are called besides, where a job trains several.
    """
    recipe, cache, network = settings.recipe(), prepared.cache, copy.deepcopy(prepared.network)
    scaling = choose_scaling(settings.workers)
    state = dict(network.state_dict())
    name = run_name(settings, images, backbone_id(state))
    train = images.rows("train")
    if recipe.train == "head":
        flips = recipe.flips or settings.test_time_flips
        features = frozen_features(images.crops, state, flips=flips, appearance=recipe.appearance, cache=cache)
        shown = features[..., -FEATURES:]
        mean, deviation = feature_statistics(shown[train]) if recipe.standardise else (np.float32(0), np.float32(1))
        inputs, state = (shown - mean) / deviation, dict(network.fc.state_dict())
    else:
        inputs = images.crops.pixels
        if recipe.head_first:
            say("Fitting the head to the frozen backbone's features …")
            first = images.of_one_class(shown_once(images, train))
            if settings.folds:  # the folds share them
                found = frozen_features(images.crops, state, flips=False, cache=cache)[first, 0, -FEATURES:]
            else:
                found = backbone_features(images.crops, state, row_ids=images.row_ids(first))[:, 0, -FEATURES:]
            network.fc.load_state_dict(fit_head(found, images.labels[first]))
            state = dict(network.state_dict())
    say(f"Training on {len(train):,} images, {recipe.epochs} epochs …")
    task = Task(
        recipe=recipe,
        examples={split: examples(images, inputs, split) for split in ("train", "validation")},
        state=state,
        classes=len(images.classes),
        seed=settings.seed,
        name=name,
        precision=settings.precision,
        tensorboard=_tensorboard(settings, part),
        mlflow=settings.mlflow,
    )
    short = is_short(task, workers=settings.workers, scaling=scaling)
    fitted = fit_here(task) if short else fit_on_ray(task, folder=cache / "train", scaling=scaling)
    learned = images.of_one_class(shown_once(images, train))
    wanted = np.union1d(learned, np.flatnonzero(np.isin(images.split, ("validation", "test"))))
    seen = np.zeros((len(images.labels), POOLED), np.float32)
    if recipe.train == "head":
        network.fc.load_state_dict(fitted.state)
        fold_standardisation(network.fc, mean, deviation)
        seen[wanted] = features[wanted, : len(FLIPS)].mean(axis=1) if settings.test_time_flips else features[wanted, 0]
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


def check_converged(network: Network) -> None:
    """Raises DivergedError where losses or weights are not finite."""
    losses = [row["loss"] for row in network.fitted.history]
    if not np.isfinite(losses).all() or not all(bool(tensor.isfinite().all()) for tensor in network.state.values()):
        raise DivergedError(
            "the training diverged: its loss or weights are no numbers any more, and no bundle was written. Try a lower --learning-rate."
        )


def model_features(state: Mapping[str, Tensor], crops: Crops, row_ids: np.ndarray, *, flips: bool) -> np.ndarray:
    """What the stages of a model make of images, float32 (N, 960); the mean over the four flips where it is to answer with theirs."""
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
        folds=settings.folds if isinstance(settings, Retrain) else None,
        cache=prepared.cache,
    )


def examples(images: LabelledImages, inputs: np.ndarray, split: str) -> Examples:
    """The images of a split, or their features: `inputs` (N, …) in the order of `images`."""
    rows = images.rows(split)
    named = images.crops.rows["source"]
    return Examples(
        inputs=inputs[rows],
        labels=images.labels[rows],
        copies=images.copies[rows],
        members=images.members,
        sources=None
        if named.null_count == len(named)
        else np.unique(named.fill_null("").to_pylist(), return_inverse=True)[1][rows],
    )


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
        **({"folds": settings.folds} if settings.folds else {}),
    }


def _tensorboard(settings: Retrain, part: str) -> str | None:
    output = Place(settings.output)
    if not output.is_local:
        say("No TensorBoard files: --output is not on this machine. metrics.parquet has the same figures at the end.")
        return None
    return str(output.path() / "tensorboard" / part)


def _champion_probabilities(settings: Retrain, prepared: Prepared, images: LabelledImages) -> np.ndarray:
    """What the champion says of the test images: float32 (N, classes)."""
    champion = prepared.champion
    assert champion is not None
    assert settings.champion is not None
    crops = labelled_crops(prepared.table, preprocess=Preprocess.from_dict(champion.preprocess), cache=prepared.cache)
    state = read_weights(Place(settings.champion, settings.storage()), champion)
    features = model_features(
        state, crops, images.row_ids(images.of_one_class(images.rows("test"))), flips=champion.test_time_flips
    )
    return softmax(head_logits(state, features) / champion.temperature, axis=1)
