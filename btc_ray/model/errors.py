"""What is said of weights that cannot be had; apart from `weights`, which takes torch's two seconds to import."""

from btc_ray.errors import UserError
from btc_ray.storage import Place


class WeightsError(UserError):
    """Weights that cannot be had or do not fit; the message says which file and what to do."""


def weights_not_found(file: Place) -> WeightsError:
    """--weights that names no file."""
    return WeightsError(f"weights not found: {file}. Give --weights imagenet, none, or the URI of a state dict.")
