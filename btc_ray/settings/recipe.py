"""How a network is trained: one record, and the one that is the default for each `--train`. No room is imported here."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from btc_ray.errors import UserError

Train = Literal["head", "layer4", "all"]
Optimizer = Literal["sgd", "nadam", "adamw"]
Schedule = Literal["step", "cosine", "one-cycle"]


class RecipeError(UserError):
    """A recipe that cannot be followed; the message names the flag."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that changes what is learned from given images and initial weights.

    Attributes, in the words of the flags of `btc-ray retrain`:
        train: what learns: the last layer, the last block of layers and what follows, or everything.
        epochs, batch_size: passes, and images a step over all workers.
        optimizer, learning_rate, momentum, weight_decay: `momentum` is SGD's.
        schedule: `step` multiplies the rate by `step_factor` every `step_epochs` epochs (0: never), `cosine` lets it fall to zero,
            `one-cycle` is Smith's (2018). `warmup`: the share of all steps in which the rate rises.
        label_smoothing, class_weights: of the cross-entropy; weights make classes count equally.
        balance_sources: an image weighs one over the square root of the images of its source, at most three times as much as one of
            the largest source, so that a small source is learned from as well; where no image names its source nothing changes.
        flips: left-right and up-down, each with probability one half.
        rotate: up to so many degrees; scale, shift: up to such a share of the side; intensity: contrast and brightness by up to
            such a share; erase: the probability of a rectangle of the picture's mean grey.
        appearance: the probability of each change of what a source leaves in its images: grey levels, sharpness, noise, JPEG.
        resolutions: sides in pixels that the epochs are divided among, in order; empty: the crop's own.
        clip: the gradient's norm is cut to it; 0: never. ema: decay per step of the moving average of the weights; 0: none.
        patience: epochs without a better validation loss after which training stops; 0: never.
        head_first: the head is fitted to the frozen backbone's features before anything else learns, so that a random head does
            not spoil what the backbone knows (Kumar et al., ICLR 2022).
        frozen_statistics: BatchNorm keeps the means and variances of the initial weights, and learns its scales and offsets alone.
            Otherwise the statistics of small batches of MRI take the place of ImageNet's, which the features were made with.
        standardise: a head learns from features of mean 0 and deviation 1, which is folded into its weights afterwards.
        one_per_group: an epoch shows one image, drawn at random, of each group of copies.
    """

    train: Train
    epochs: int
    batch_size: int
    optimizer: Optimizer
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule
    warmup: float = 0.0
    step_epochs: int = 7
    step_factor: float = 0.5
    label_smoothing: float = 0.0
    class_weights: bool = False
    balance_sources: bool = True
    flips: bool = True
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    intensity: float = 0.0
    erase: float = 0.0
    appearance: float = 0.0
    resolutions: tuple[int, ...] = ()
    clip: float = 0.0
    ema: float = 0.0
    patience: int = 0
    head_first: bool = False
    frozen_statistics: bool = False
    standardise: bool = False
    one_per_group: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("train", Train), ("optimizer", Optimizer), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(kind):
                raise RecipeError(f"{_flag(name)} is {getattr(self, name)!r}; it can be {', '.join(get_args(kind))}.")
        for name in ("epochs", "batch_size"):
            _check(self, name, getattr(self, name) >= 1, "must be at least 1")
        _check(self, "learning_rate", self.learning_rate > 0, "must be more than 0")
        for name in ("momentum", "warmup", "label_smoothing", "ema", "scale", "shift", "intensity"):
            _check(self, name, 0 <= getattr(self, name) < 1, "is a share from 0 to below 1")
        for name in ("erase", "appearance"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "is a probability from 0 to 1")
        for name in ("weight_decay", "clip", "patience", "step_epochs", "rotate"):
            _check(self, name, getattr(self, name) >= 0, "must not be negative")
        _check(self, "step_factor", 0 < self.step_factor <= 1, "is a factor above 0 and up to 1")
        _check(self, "resolutions", all(16 <= side <= 1024 for side in self.resolutions), "are sides from 16 to 1024 pixels")
        if self.train == "head":
            for name in ("rotate", "scale", "shift", "intensity", "erase", "resolutions", "head_first", "frozen_statistics"):
                _check(self, name, not getattr(self, name), "does not go with --train head, which learns from features made once")
        else:
            _check(self, "standardise", not self.standardise, "goes with --train head alone")

    def changed(self, **values: Any) -> "Recipe":
        """A recipe with these values in place of its own, None meaning its own. Raises RecipeError."""
        known = {item.name for item in fields(self)}
        if unknown := sorted(values.keys() - known):
            raise RecipeError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        return replace(self, **{name: value for name, value in values.items() if value is not None})


def _check(recipe: Recipe, name: str, good: bool, what: str) -> None:
    if not good:
        raise RecipeError(f"{_flag(name)} {what}.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


RECIPES: dict[str, Recipe] = {
    "head": Recipe(
        train="head", epochs=24, batch_size=64, optimizer="nadam", learning_rate=0.001, schedule="step", standardise=True
    ),
    "layer4": Recipe(
        train="layer4", epochs=8, batch_size=32, optimizer="adamw", learning_rate=2e-4, weight_decay=0.05, schedule="one-cycle",
        warmup=0.2, label_smoothing=0.05, clip=5, ema=0.98, resolutions=(160,), head_first=True, frozen_statistics=True,
        one_per_group=True,
    ),
    "all": Recipe(
        train="all", epochs=36, batch_size=32, optimizer="adamw", learning_rate=6e-4, weight_decay=0.05, schedule="one-cycle",
        warmup=0.2, label_smoothing=0.05, rotate=25, scale=0.2, shift=0.08, intensity=0.3, erase=0.4, clip=5, ema=0.99,
        resolutions=(160,), head_first=True, frozen_statistics=True, one_per_group=True,
    ),
}  # fmt: skip
"""The recipe of each `--train`; benchmarks/RESULTS.md has what they come to."""
