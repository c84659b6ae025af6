"""What a file format has to bring: `Format`, one record a format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from btc_ray.images.picture import Picture

HEAD = 1024
"""Bytes from the start of a file that are enough to tell its format."""


class Decode(Protocol):
    """Decodes one frame: a whole picture, or an `ImageError` that says why not; never a part of one, nothing on stderr.

    Thread-safe. Frames are counted from 0. `max_pixels`: larger frames are refused by their header. `algorithm`: which pixels, as
    `picture.ALGORITHM` has it.
    """

    def __call__(self, data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture: ...


class DecodeShrunk(Protocol):
    """As `Decode`, at a half, a quarter or an eighth of the size, where no side falls below `least_side` pixels by that."""

    def __call__(self, data: bytes, frame: int, *, least_side: int, max_pixels: int, algorithm: int) -> Picture: ...


def one_frame(data: bytes) -> int:
    """For formats of which a file is one row, whatever is in it: several pages or frames are that row's error."""
    return 1


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format.

    Attributes:
        name: as people write it: "JPEG".
        suffixes: of its files' names, in lower case, with the dot.
        sniff: whether a file that begins with these bytes (`HEAD` of them, or the whole file) is one; never raises.
        frames: how many frames a whole file has, each a row of its own; raises `ImageError`.
        decode: one frame → grey.
        shrinks: one frame → grey at a part of its size, where the format has a shortcut to it.
        mode: how the file stores a pixel, for audits: "L", "RGB", "I;16"; raises `ImageError`.
    """

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    frames: Callable[[bytes], int]
    decode: Decode
    shrinks: DecodeShrunk | None = None
    mode: Callable[[bytes], str] | None = None
