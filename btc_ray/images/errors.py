"""Why a file gives no picture: errors named as the status they become, in words for a person and without a byte of the file."""

from btc_ray.errors import UserError


class ImageError(UserError):
    """A file that gives no picture; the message says why, for a person."""


class Unreadable(ImageError):  # noqa: N818  (named as the status it becomes)
    """The bytes are broken: empty, cut short, damaged, or not an image at all."""


class Unsupported(ImageError):  # noqa: N818  (named as the status it becomes)
    """A sound file of a kind that is not taken: another format, several frames, too many pixels."""


def cut_short(what: str) -> Unreadable:
    """The one wording for every truncated file."""
    return Unreadable(f"the file is cut short ({what}); copy it again from its source")


def several(count: int, what: str) -> Unsupported:
    """The one wording for files that hold more than one picture."""
    return Unsupported(f"holds {count:,} {what}; export the slices as single images")
