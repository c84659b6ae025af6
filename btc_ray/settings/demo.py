"""The settings of `btc-ray demo`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job, SettingsError


@dataclass(frozen=True, kw_only=True)
class Demo(Job):
    """Phantom images → retrain → score → report; no network, no data needed."""

    output: str
    """Folder for everything the demo makes."""

    images_per_class: int = 160
    """Phantom images per class to train on; a quarter as many again to test on."""

    epochs: int = 15
    """Passes over the training images."""

    seed: int = 0
    """Seed of the phantoms and of the training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images_per_class < 4 or self.epochs < 1:
            raise SettingsError("--images-per-class must be at least 4 and --epochs at least 1.")
