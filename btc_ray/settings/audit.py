"""The settings of `btc-ray audit`."""

from dataclasses import dataclass

from btc_ray.settings.job import Device, Precision, SettingsError
from btc_ray.settings.labelled import Labelled


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
