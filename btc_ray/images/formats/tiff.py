"""TIFF and BigTIFF of any number type, one page of them."""

import io

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from btc_ray.images.errors import Unsupported
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import load, luma, opened, plain, stretched, with_opencv
from btc_ray.images.formats.tiff_tags import TiffPage, read_tiff
from btc_ray.images.limits import check_size
from btc_ray.images.picture import Picture, whole


def _sniff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    page = read_tiff(data)
    check_size(page.width, page.height, max_pixels)
    if not page.deep:
        return whole(plain(opened(TiffImageFile, data, "TIFF", what=str(page)), orient=False))
    grey = stretched(luma(_deep(data, page)))
    return whole(255 - grey if page.white_is_zero else grey)  # neither library inverts deep pixels


def _deep(data: bytes, page: TiffPage) -> np.ndarray:
    """Pixels of a deep TIFF as numbers, turned upright (both libraries follow TIFF's orientation by themselves)."""
    if (page.bits in (16, 32) and page.samples == 1 and not page.white_is_zero) or page.bits == 12:
        try:
            image = opened(TiffImageFile, data, "TIFF")
        except Unsupported:
            pass  # a layout that Pillow does not know and OpenCV may
        else:
            load(image)
            values = np.asarray(image)
            # Pillow has no unsigned 32-bit mode and shows such numbers as signed.
            return values.view(np.uint32) if page.bits == 32 and page.number_type == "unsigned" else values
    # OpenCV reads these layouts, and complains on stderr about all others.
    if page.bits in (8, 16, 32, 64) and page.samples in (1, 3, 4) and not (page.number_type == "float" and page.bits < 32):
        return with_opencv(data, "TIFF")
    raise Unsupported(f"a TIFF with {page} samples per pixel is not taken; export it as 8- or 16-bit grey")


def _mode(data: bytes) -> str:
    return TiffImageFile(io.BytesIO(data)).mode


TIFF = Format(name="TIFF", suffixes=(".tif", ".tiff"), sniff=_sniff, frames=one_frame, decode=_decode, mode=_mode)
