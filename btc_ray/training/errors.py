"""What a user can get wrong about a training."""

from btc_ray.errors import BtcRayError, UserError


class ChampionError(UserError):
    """A champion that a new model cannot be compared with."""


class MLflowMissingError(UserError):
    """--mlflow without the library."""


class DivergedError(BtcRayError):
    """A training whose loss or weights are no numbers any more; nothing of it is published."""


class WorkersError(UserError):
    """More training processes than there is room for."""
