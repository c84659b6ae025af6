"""What a training needs before it reads the first image: every setting that can be wrong is found wrong here.

Nothing here imports torch before the cheap checks are done: a mistyped path is told at once.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from btc_ray.dataset.answered import with_answers
from btc_ray.dataset.check import check_classes, check_readable
from btc_ray.dataset.data import read_data
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.table import class_names
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, read_bundle, read_split
from btc_ray.model.bundle.signature import check_key
from btc_ray.model.errors import weights_not_found
from btc_ray.settings import Experiments, Retrain
from btc_ray.storage import Place
from btc_ray.storage.outputs import check_output
from btc_ray.training.errors import ChampionError, MLflowMissingError, WorkersError
from btc_ray.workers.session import available_cpus, chosen_address

if TYPE_CHECKING:
    import pyarrow as pa
    from torchvision.models.resnet import ResNet

OURS = (
    *("model.safetensors", "bundle.json", "model_card.md", "metrics.parquet", "split.parquet", "reference.safetensors"),
    *(
        "int8.safetensors",
        "model.sig",
        "gate.json",
        "out_of_fold.parquet",
        "folds.json",
        "folds.html",
        "figures",
        "tensorboard",
        "versions",
        ".*",
    ),
)
"""What a training of before may have left in its output, and a training of now replaces."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is checked and ready: the labelled table, how its images become crops, the initial network, where things are kept.

    `held`: content_sha256 → split of the images that the champion knew; None without one. `answers`: what became of the readers'
    answers; None without any.
    """

    table: "pa.Table"
    preprocess: Preprocess
    network: "ResNet"
    cache: Place
    champion: Bundle | None = None
    held: dict[str, str] | None = None
    answers: dict[str, Any] | None = None


def prepare_retrain(settings: Retrain) -> Prepared:
    """Check everything that `btc-ray retrain` was given, and list the images.

    Raises OutputError, WeightsError, ChampionError, BundleError, MLflowMissingError, WorkersError, KeyFileError and LabelledDataError.
    """
    output = Place(settings.output, settings.storage())
    check_output(output, ours=OURS)
    _check_weights(settings)
    if settings.mlflow and find_spec("mlflow") is None:
        raise MLflowMissingError("--mlflow needs MLflow: pip install 'btc-ray[mlflow]'.")
    if settings.workers and chosen_address(settings.address) is None:
        cpus = settings.cpus or available_cpus()
        if settings.workers > max(cpus, 2) and not _has_gpus():
            raise WorkersError(
                f"--workers {settings.workers} asks for more than the {cpus} CPUs of this machine; give at most {cpus}."
            )
    if settings.sign:
        check_key(settings.sign, private=True)
    champion, held = _champion(settings)
    table, answers = _labelled(settings, output.at(settings.data))
    classes = class_names(table)
    if champion is not None and champion.classes != classes:
        raise ChampionError(f"the champion tells {', '.join(champion.classes)} apart, the data {', '.join(classes)}.")
    preprocess = Preprocess(crop=settings.crop, size=settings.image_size())
    network = _network(settings, len(classes))
    cache = output.at(settings.cache_uri()).absolute()
    return Prepared(
        table=table, preprocess=preprocess, network=network, cache=cache, champion=champion, held=held, answers=answers
    )


def prepare_experiments(settings: Experiments) -> Prepared:
    """The same for `btc-ray experiments`, whose output the command has looked at. Raises WeightsError and LabelledDataError."""
    _check_weights(settings)
    data = Place(settings.data, settings.storage())
    table, answers = _labelled(settings, data)
    return Prepared(
        table=table,
        preprocess=Preprocess(crop=settings.crop, size=settings.size),
        network=_network(settings, len(class_names(table))),
        cache=data.at(settings.cache_uri()).absolute(),
        answers=answers,
    )


def _labelled(settings: Retrain | Experiments, data: Place) -> tuple["pa.Table", dict[str, Any] | None]:
    """The labelled images to train on with the readers' answers, their classes looked at, and a few of them read; and what became of
    the answers. Raises LabelledDataError and AnswersError."""
    table, counts = read_data(settings), None
    if settings.answers:
        answered = with_answers(table, data, settings.answers)
        table, counts = answered.table, answered.counts
    table = check_classes(table, data, classes=settings.classes)
    table = with_patients(
        table, data, settings.groups, published_sides=settings.split == "folders", keep_labels=settings.keep_labels
    )
    check_readable(table, data, Preprocess(crop=settings.crop, size=64))
    return table, counts


def _check_weights(settings: Retrain | Experiments) -> None:
    """That --weights is there, before torch is imported to read it."""
    if settings.weights in ("imagenet", "none"):
        return
    file = Place(settings.weights, settings.storage())
    if not file.exists():
        raise weights_not_found(file)


def _network(settings: Retrain | Experiments, classes: int) -> "ResNet":
    from btc_ray.model.weights import initial_network

    return initial_network(settings.weights, classes, seed=settings.seed, options=settings.storage())


def _has_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


def _champion(settings: Retrain) -> tuple[Bundle | None, dict[str, str] | None]:
    """The bundle to beat and, by content_sha256, on which side the images stood that it knew. Raises ChampionError, BundleError."""
    if settings.champion is None:
        return None, None
    champion = Place(settings.champion, settings.storage())
    if champion.absolute().uri.rstrip("/") == champion.at(settings.output).absolute().uri.rstrip("/"):
        raise ChampionError("--champion and --output are the same folder: the champion would be replaced before it was beaten.")
    if settings.split != "group":
        raise ChampionError(
            "--champion needs --split group: the published test images have copies that both models learned from."
        )
    bundle = read_bundle(champion)
    if bundle.data.get("folds"):
        raise ChampionError(f"{champion} was trained on all images (--folds): none is left on which both could be compared.")
    split = read_split(champion, bundle)
    if split is None:
        raise ChampionError(f"{champion} has no split.parquet, so nobody knows which images it learned from; train it again.")
    from btc_ray.dataset.labelled import kept_splits

    return bundle, kept_splits(split)
