"""What a user can get wrong about a training."""

from btc_ray.errors import UserError


class ChampionError(UserError):
    """A champion that a new model cannot be compared with."""


class MLflowMissingError(UserError):
    """--mlflow without the library."""


class WorkersError(UserError):
    """More training processes than there is room for."""
