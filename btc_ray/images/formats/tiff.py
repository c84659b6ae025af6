"""TIFF and BigTIFF of any number type, one page of them."""

import numpy as np
from PIL import Image

from btc_ray.images.errors import Unsupported
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import deep, grey_of, luma, plain, upright
from btc_ray.images.formats.tiff_page import read_page
from btc_ray.images.formats.tiff_pixels import image, numbers
from btc_ray.images.picture import Picture, whole

_GREY_INVERTED, _GREY, _RGB = 0, 1, 2  # PhotometricInterpretation


def _sniff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    page = read_page(data, max_pixels)
    known = page.photometric in (_GREY_INVERTED, _GREY, _RGB) and page.samples <= 4
    # The library does not know all that keep channels apart, nor all of grey with transparency.
    if not page.deep and not (page.bits == 8 and known and page.in_bytes and (page.planar or page.samples == 2)):
        return whole(plain(image(page), orientation=page.orientation))
    if not known:
        raise Unsupported(f"a TIFF with {page} samples in this colour space is not taken; export it as 8- or 16-bit grey")
    values = numbers(page)
    if page.samples == 2:
        values = values[..., 0]
    if not page.deep:
        grey = upright(
            grey_of(Image.fromarray(np.ascontiguousarray(values[..., :3]))) if values.ndim == 3 else values, page.orientation
        )
        return whole(255 - grey if page.photometric == _GREY_INVERTED else grey)
    values = upright(luma(values[..., 2::-1]) if values.ndim == 3 else values, page.orientation)
    return deep(values, inverted=page.photometric == _GREY_INVERTED, algorithm=algorithm)


def _mode(data: bytes) -> str:
    page = read_page(data, 2**30)
    if not page.deep:
        return image(page).mode
    return (
        {"float": "F", "signed": "I"}.get(page.number_type, "I")
        + f";{page.bits}"
        + ("" if page.samples == 1 else f" × {page.samples}")
    )


TIFF = Format(name="TIFF", suffixes=(".tif", ".tiff"), sniff=_sniff, frames=one_frame, decode=_decode, mode=_mode)
