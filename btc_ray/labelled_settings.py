"""The jobs on labelled images: one frozen dataclass each, as in settings.py.

Flags of training that are not given are those of the recipe (recipe.py) of `--train`.
"""

from dataclasses import dataclass, fields
from typing import Literal

from btc_ray.recipe import RECIPES, Optimizer, Recipe, Schedule, Train
from btc_ray.settings import CropMethod, Device, Engine, Job, Precision, SettingsError, Split, check_size


@dataclass(frozen=True, kw_only=True)
class Labelled(Job):
    """What every job on labelled images takes."""

    data: str
    """DATA/Training/<class>/* and DATA/Testing/<class>/*, or DATA/<class>/*, or a Parquet/CSV table with uri,label[,split][,group]."""

    output: str
    """Folder or URI for what the job makes."""

    cache: str | None = None
    """Folder or URI where crops, copies and features are kept for the next job on the same data. Default: OUTPUT/../.btc-ray-cache."""

    def cache_uri(self) -> str:
        """`cache`, or a folder beside the output."""
        return self.cache or f"{self.output.rstrip('/').rpartition('/')[0] or '.'}/.btc-ray-cache"


@dataclass(frozen=True, kw_only=True)
class Audit(Labelled):
    """Say what is wrong with a labelled data set, and what a test score on it can mean, before anything is trained."""

    weights: str = "imagenet"
    """Frozen backbone that looks for wrong labels: imagenet (torchvision's, fetched once), the URI of a ResNet18 state dict, or
    none: leave that part out."""

    model: str | None = None
    """A bundle to ask about images whose centre is painted over. Default: leave that part out."""

    shown: int = 24
    """How many pictures, or groups of copies, each part of the page shows at most."""

    device: Device = "auto"
    """Where --model runs; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """Arithmetic of --model; auto takes bf16 or fp16 where the hardware has it, else fp32; int8 as in `btc-ray score`."""

    seed: int = 0
    """Seed of everything random: the split by group (that of `retrain` with the same seed), folds, probes, samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shown < 0:
            raise SettingsError("--shown must be at least 0.")


@dataclass(frozen=True, kw_only=True)
class Training(Labelled):
    """What the jobs that train take."""

    weights: str = "imagenet"
    """Initial weights: imagenet (torchvision's, fetched once), none (random), or the URI of a ResNet18 state dict."""

    split: Split = "group"
    """group: train, validation and test by group of copies (mirrored ones too), so that no image is on two sides, whatever the
    folders say; folders: the published Training and Testing, to compare with others."""

    validation: float = 0.1
    """Share of the images, or with --split folders of the training images, that choose the best epoch; never test images."""

    test: float = 0.2
    """Share of the images held out to measure, with --split group."""

    crop: CropMethod = "robust"
    """How the head is found: robust, kaggle (the data set author's method), or none (whole frame)."""

    drop_doubtful_crops: float | None = None
    """Leave out images whose crop has at least this doubt (0 to 1); split.parquet lists them."""

    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            raise SettingsError("--validation and --test are shares between 0 and 1, and together less than 1.")
        if self.drop_doubtful_crops is not None and not 0 <= self.drop_doubtful_crops <= 1:
            raise SettingsError("--drop-doubtful-crops is a doubt from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class Retrain(Training):
    """Train a model bundle on a labelled data set."""

    train: Train = "all"
    """What learns: head (the last layer, on features of the frozen backbone: minutes), layer4 (the last block of layers too), or
    all. Each has a recipe of its own, which the flags below change."""

    champion: str | None = None
    """A bundle to beat. Both are compared on the same held-out groups; the exit code is 0 to promote the new one, 5 to keep the
    champion, and gate.json says why."""

    size: int | None = None
    """Side of the square crop, in pixels. Default: the last of --resolutions, else 224."""

    workers: int | None = None
    """Training processes. They share every batch, so that the result does not depend on their number. Default: one a GPU; on
    CPUs 1."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bf16 where the hardware has it."""

    test_time_flips: bool = False
    """The model answers with the mean over an image and its three flips: more often right, and four times the work at night."""

    mlflow: str | None = None
    """Tracking URI of an MLflow server that gets the same figures as TensorBoard. Needs btc-ray[mlflow]."""

    epochs: int | None = None
    """Passes over the training images. Default: the recipe's."""

    batch_size: int | None = None
    """Images per training step, over all workers. Default: the recipe's."""

    optimizer: Optimizer | None = None
    """Default: the recipe's."""

    learning_rate: float | None = None
    """Step size of the optimizer, at its highest. Default: the recipe's."""

    momentum: float | None = None
    """Momentum of sgd. Default: the recipe's."""

    weight_decay: float | None = None
    """Weight decay. Default: the recipe's."""

    schedule: Schedule | None = None
    """Course of the learning rate. Default: the recipe's."""

    warmup: float | None = None
    """Share of all steps in which the learning rate rises. Default: the recipe's."""

    step_epochs: int | None = None
    """The step schedule multiplies the learning rate every so many epochs; 0: never. Default: the recipe's."""

    step_factor: float | None = None
    """Factor of the step schedule. Default: the recipe's."""

    label_smoothing: float | None = None
    """Share of the target's probability spread over all classes, 0 to 1. Default: the recipe's."""

    class_weights: bool | None = None
    """Weigh images so that every class counts the same. Default: the recipe's."""

    flips: bool | None = None
    """Random left-right and up-down flips. Default: the recipe's."""

    rotate: float | None = None
    """Random turns of up to so many degrees. Default: the recipe's."""

    scale: float | None = None
    """Random changes of size of up to such a share. Default: the recipe's."""

    shift: float | None = None
    """Random shifts of up to such a share of the side. Default: the recipe's."""

    intensity: float | None = None
    """Random changes of contrast and brightness of up to such a share. Default: the recipe's."""

    erase: float | None = None
    """Probability that a random rectangle is erased. Default: the recipe's."""

    resolutions: tuple[int, ...] | None = None
    """Sides in pixels that the epochs are divided among, small ones first. Default: the recipe's."""

    clip: float | None = None
    """The gradient's norm is cut to this; 0: never. Default: the recipe's."""

    ema: float | None = None
    """Decay per step of a moving average of the weights, which is then the model; 0: none. Default: the recipe's."""

    patience: int | None = None
    """Stop after so many epochs without a better validation loss; 0: never. Default: the recipe's."""

    head_first: bool | None = None
    """Fit the head to the frozen backbone's features before anything else learns. Default: the recipe's."""

    frozen_statistics: bool | None = None
    """BatchNorm keeps the statistics of the initial weights. Default: the recipe's; never with --weights none, which have none."""

    standardise: bool | None = None
    """Train a head on features brought to mean 0 and deviation 1, and fold that into its weights: the same network, sooner
    trained. Default: the recipe's."""

    one_per_group: bool | None = None
    """An epoch shows one image, drawn at random, of each group of copies. Default: the recipe's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recipe()
        if self.workers is not None and self.workers < 1:
            raise SettingsError("--workers must be at least 1.")
        check_size(self.image_size())

    def recipe(self) -> Recipe:
        """The recipe of --train with the flags given. Raises RecipeError."""
        given = {item.name: getattr(self, item.name) for item in fields(Recipe) if item.name != "train"}
        recipe = RECIPES[self.train]
        if self.weights == "none" and self.train != "head":  # a random backbone has no features to fit a head to
            recipe = recipe.changed(head_first=False, frozen_statistics=False)
        return recipe.changed(**given)

    def image_size(self) -> int:
        """The side of the crops that the network is trained for, in pixels."""
        resolutions = self.recipe().resolutions
        return self.size or (resolutions[-1] if resolutions else 224)


@dataclass(frozen=True, kw_only=True)
class Experiments(Training):
    """Compare optimizers, learning rates, losses and schedules over several seeds, on features of the frozen backbone."""

    grid: str | None = None
    """YAML file or URI of the grid: names of recipe settings with lists of values, every combination of which is an experiment;
    or a list of such grids. What is not named is as with --train head. Default: the report's grid, and that default."""

    seeds: int = 3
    """Runs of each experiment, with the seeds 0, 1, … (of initial weights, order and flips); a verdict needs at least 2."""

    max_experiments: int = 1000
    """A grid of more experiments than this is refused."""

    size: int = 224
    """Side of the square crop, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size)
        if self.seeds < 1 or self.max_experiments < 1:
            raise SettingsError("--seeds and --max-experiments must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Evaluate(Labelled):
    """Measure model bundles on labelled images: score them as at night, then say what the numbers are worth."""

    model: tuple[str, ...]
    """Model bundles: one trained with --split folders, one with --split group, or both, side by side."""

    engine: Engine = "auto"
    """What computes: torch, or openvino (x86 CPUs; pip install 'btc-ray[cpu]'); auto takes openvino where it is installed and no
    GPU is used. A run that is continued goes on with what it was begun with."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU where there is one."""

    precision: Precision = "auto"
    """Arithmetic of the model; auto takes bf16 or fp16 where the hardware has it, else fp32; int8 as in `btc-ray score`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise SettingsError("--model is empty: name a bundle made by `btc-ray retrain`.")
