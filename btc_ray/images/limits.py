"""How much one file may ask for, in one place: a hostile file of a few kilobytes is a row with its reason, not an hour or 10 GB.

What is counted is what a header claims, before any memory is asked for. All limits grow with `max_pixels`, which a user can raise.
With the default no file takes more than 500 MB, or 2 s on a core of 2023.
"""

from btc_ray.images.errors import Unreadable, Unsupported

MAX_PIXELS = 8192 * 8192
"""Default limit of a picture: 67 million pixels, 67 MB grey, and below the 89 million at which Pillow starts to warn on stderr."""

BYTES_PER_PIXEL = 5
"""Of memory while decoding, for each pixel that is allowed: 336 MB by default. Pillow's colour takes 4 and the grey picture 1; the
coefficients of a progressive colour JPEG 3, or 6 where its colour is as fine as its grey."""

JPEG_VISITS_PER_PIXEL = 12
"""Times that the scans of a JPEG may go over each pixel that is allowed, counted for every component: those of a usual progressive
file do so 6 to 14 times. At 0.11 µs a block of 64 pixels, 5,000 scans of 67 million pixels would take ten minutes."""

JPEG_SCANS = 200
"""Most scans of a JPEG; usual progressive files have 6 to 10."""

JPEG_SEGMENTS = 10_000
"""Most segments before and between the scans of a JPEG; a file with a long colour profile and maker's notes has some hundreds."""

PNG_CHUNKS = 100_000
"""Most chunks of a PNG; one of 67 million pixels in the usual pieces of 8 kB has a quarter of that."""

TIFF_DIRECTORIES = 1_000
"""Most directories of a TIFF that are counted: beyond, it is a stack however long."""

TIFF_TAGS = 4_096
"""Most tags of one directory; TIFF knows about 100, and a microscope's file has some more of its own."""

TIFF_STRIPS = 100_000
"""Most strips or tiles of a TIFF: a picture of 65,535 rows in strips of one row has fewer."""


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


def check_memory(needed: int, what: str, max_pixels: int) -> None:
    """Refuse an image by the bytes that decoding it takes at once.

    Raises:
        Unsupported: more than `BYTES_PER_PIXEL` × `max_pixels`.
    """
    if needed > (most := BYTES_PER_PIXEL * max(max_pixels, 2**20)):
        raise Unsupported(
            f"decoding {what} takes {needed / 1e6:,.0f} MB of memory, more than the limit of {most / 1e6:,.0f} MB; "
            "save it smaller or as 8-bit grey, or raise max_pixels if it is meant"
        )
