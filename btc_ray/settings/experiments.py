"""The settings of `btc-ray experiments`."""

from dataclasses import dataclass

from btc_ray.settings.job import SettingsError, check_size
from btc_ray.settings.labelled import Training


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
