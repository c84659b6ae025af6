"""BMP, whose mark is two letters: its header's length is asked as well."""

from PIL.BmpImagePlugin import BmpImageFile

from btc_ray.images.errors import cut_short
from btc_ray.images.formats.format import Format, one_frame
from btc_ray.images.formats.raster import mode_of, opened, plain
from btc_ray.images.limits import check_memory, check_size
from btc_ray.images.picture import Picture, whole

_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the header's kinds, OS/2 to Windows 98


def _sniff(head: bytes) -> bool:
    return head.startswith(b"BM") and (len(head) < 18 or int.from_bytes(head[14:18], "little") in _HEADERS)


def _decode(data: bytes, frame: int, *, max_pixels: int, algorithm: int) -> Picture:
    image = opened(BmpImageFile, data, "BMP")
    width, height = image.size
    check_size(width, height, max_pixels)
    check_memory(width * height * 5, f"this BMP of {width:,} × {height:,} pixels", max_pixels)
    for codec, extents, offset, args in image.tile:
        # Pillow does not miss the last row's padding; a file that ends within it is cut short all the same.
        if codec == "raw" and extents and isinstance(args, tuple) and len(data) < offset + args[1] * extents[3]:
            raise cut_short("BMP pixel data end early")
    return whole(plain(image))


BMP = Format(
    name="BMP", suffixes=(".bmp", ".dib"), sniff=_sniff, frames=one_frame, decode=_decode, mode=mode_of(BmpImageFile, "BMP")
)
