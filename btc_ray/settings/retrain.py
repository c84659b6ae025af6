"""The settings of `btc-ray retrain`. Flags of training that are not given are those of the recipe (recipe.py) of `--train`."""

from dataclasses import dataclass, fields
from typing import Literal

from btc_ray.settings.job import SettingsError, check_size
from btc_ray.settings.labelled import Training
from btc_ray.settings.recipe import RECIPES, Optimizer, Recipe, Schedule, Train


@dataclass(frozen=True, kw_only=True)
class Retrain(Training):
    """Train a model bundle on a labelled data set."""

    train: Train = "all"
    """What learns: head (the last layer, on features of the frozen backbone, which are computed once), layer4 (the last block of
    layers too), or all. Each has a recipe of its own, which the flags below change."""

    champion: str | None = None
    """A bundle to beat. Both are compared on the same held-out groups; the exit code is 0 to promote the new one, 5 to keep the
    champion, and gate.json says why."""

    folds: int | None = None
    """Measure every image once, by a model that never saw its patient or copies: so many models, each trained on the other folds
    (folds.html, folds.json, out_of_fold.parquet). The bundle then learns from all images, and its figures are those. Needs --split
    group; --test is not looked at."""

    size: int | None = None
    """Side of the square crop, in pixels. Default: the last of --resolutions, else 224."""

    workers: int | None = None
    """Training processes. They share every batch, so that the result does not depend on their number. Default: one a GPU; on
    CPUs 1, and none for a head that is learned sooner than a process starts."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bf16 where the hardware has it."""

    test_time_flips: bool = False
    """The model answers with the mean over an image and its three flips: more often right, and four times the work at night."""

    sign: str | None = None
    """File of a private key (PEM, elliptic curve): the bundle gets a signature of OpenSSF's Model Signing, model.sig, which
    `score --require-signature` holds it to. Needs btc-ray[sign]."""

    target_risk: float = 0.01
    """Errors among new patients' accepted images, as a share: `decision` accepts where an upper 95 % bound of it, over held-out
    patients, is at most this, and nothing where that cannot be shown."""

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

    balance_sources: bool | None = None
    """Weigh an image by one over the square root of the images of its source (the column `source`), at most three times as much as
    one of the largest, so that a small source is learned from as well. Default: the recipe's, which does."""

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

    appearance: float | None = None
    """Probability of each change of what a source leaves in its images: grey levels along a random curve, sharpness, noise, JPEG.
    Where a class comes from a source of its own, the network then learns less of the source. Default: the recipe's."""

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
        if not 0 < self.target_risk < 1:
            raise SettingsError("--target-risk is a share between 0 and 1.")
        check_size(self.image_size())
        if self.folds is not None:
            if not 2 <= self.folds <= 50:
                raise SettingsError("--folds is a number from 2 to 50.")
            if self.split != "group":
                raise SettingsError("--folds needs --split group: every image measures once, whatever the folders say.")
            if self.champion is not None:
                raise SettingsError(
                    "--folds does not go with --champion: the bundle learns from all images, and none is left to compare on."
                )

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
