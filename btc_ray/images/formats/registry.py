"""Where a format plugs in: `FORMATS`, asked in this order whose file it is, by content, whatever the file is called."""

from btc_ray.images.formats.bmp import BMP
from btc_ray.images.formats.dicom import DICOM
from btc_ray.images.formats.format import Format
from btc_ray.images.formats.jpeg import JPEG
from btc_ray.images.formats.nifti import NIFTI
from btc_ray.images.formats.png import PNG
from btc_ray.images.formats.tiff import TIFF
from btc_ray.images.formats.webp import WEBP

FORMATS: tuple[Format, ...] = (JPEG, PNG, TIFF, WEBP, BMP, DICOM, NIFTI)
"""The most frequent first; those with the weakest mark last."""


def sniff(head: bytes) -> Format | None:
    """The format of a file that begins with `head` (`HEAD` bytes, or the whole file), None where it is none that is taken."""
    return next((one for one in FORMATS if one.sniff(head)), None)
