"""How much one file may ask for, in one place: a hostile file of a few kilobytes is a row with its reason, not an hour or 10 GB.

What is counted is what a header claims, before any memory is asked for.
"""

from btc_ray.images.errors import Unreadable, Unsupported

MAX_PIXELS = 8192 * 8192
"""Default limit of a picture: 67 million pixels, 67 MB grey, and below the 89 million at which Pillow starts to warn on stderr."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image by the size its header claims, before any memory is asked for.

    Raises:
        Unreadable: one side is zero or negative.
        Unsupported: more than `max_pixels` pixels.
    """
    if width <= 0 or height <= 0:
        raise Unreadable(f"the header says {width} × {height} pixels: there is no picture in it")
    if width * height > max_pixels:
        raise Unsupported(
            f"{width:,} × {height:,} pixels are more than the limit of {max_pixels:,}; "
            "save it smaller, or raise max_pixels if it is meant"
        )
