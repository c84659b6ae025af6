"""Batch scoring and retraining of a brain-tumour MRI classifier on Ray. Research use only; not a medical device.

`btc_ray.load("MODEL").predict(images)`, `btc_ray.score("MODEL", inputs, "RUN")`, `btc_ray.open_run("RUN")` and `btc_ray.crop(image)`
are Python's door; importing this package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

NOT_FOR_DIAGNOSIS = "Research use only. Not a medical device; not for diagnostic use."

if TYPE_CHECKING:
    from btc_ray.api import Model, Run, crop, load, open_run, score

__all__ = ["NOT_FOR_DIAGNOSIS", "Model", "Run", "__version__", "crop", "load", "open_run", "score"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "Run", "crop", "load", "open_run", "score"):
        return getattr(import_module("btc_ray.api"), name)
    raise AttributeError(f"module 'btc_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
