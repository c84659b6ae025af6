"""File formats behind one registry: sniff, count frames, decode."""

from btc_ray.images.formats.format import HEAD, Format
from btc_ray.images.formats.registry import FORMATS, sniff

__all__ = ["FORMATS", "HEAD", "Format", "sniff"]
