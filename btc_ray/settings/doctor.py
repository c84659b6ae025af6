"""The settings of `btc-ray doctor`."""

from dataclasses import dataclass

from btc_ray.settings.job import Job


@dataclass(frozen=True, kw_only=True)
class Doctor(Job):
    """What this machine can do and what is missing: decoders, engines, Ray, GPUs, stores, weights, memory, disk."""

    output: str = "."
    """Where the runs will be written: its free room is shown."""

    weights: str = "imagenet"
    """The initial weights that retraining will be given, as `retrain --weights` takes them: whether they are there."""

    start_ray: bool = False
    """Start a Ray as a job would, or join the one at --address, run one task on it and leave it."""

    json: bool = False
    """Print one JSON document instead of text."""
