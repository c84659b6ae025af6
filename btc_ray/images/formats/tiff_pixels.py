"""The numbers of a TIFF page, and a TIFF of nothing but one page, for the library that decodes it.

Libraries are given directories that are written here: with no tag that was not checked, no page but one, and no channel but one where
channels lie apart. OpenCV 5.0 leaves memory unwritten in planar pictures; libtiff and Pillow print what they find odd.
"""

import ctypes
import struct
from functools import cache

import numpy as np
from PIL import ImageFile, _imaging
from PIL.TiffImagePlugin import TiffImageFile

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.raster import load, opened
from btc_ray.images.formats.tiff_page import UNCOMPRESSED, TiffPage

_SHORT, _LONG = 3, 4
_SIZES = {1: 1, 3: 2, 4: 4, 7: 1, 5: 4}  # bytes that are swapped together: bytes, shorts, longs, undefined, rationals
# Tags of decoders, and how many values each has; the predictor (317) is left out where it is undone here.
_FILL_ORDER, _PREDICTOR, _COLOUR_MAP = 266, 317, 320
_PASSED_ON = {_FILL_ORDER: 1, 292: 1, 293: 1, 332: 1, 347: None, 529: 3, 530: 2, 531: 1, 532: 6}
_MOST = 2**17  # bytes of one such tag
_EXTRA_SAMPLES = 338
_OF_BYTES = (
    5,
    8,
    32773,
    32946,
    34925,
    50000,
)  # compressions that take bytes whatever they mean: LZW, Deflate, PackBits, LZMA, Zstandard
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1], axis=1).ravel()  # fill order 2

Entries = dict[int, tuple[int, int, bytes]]  # tag → type, count, bytes


def numbers(page: TiffPage) -> np.ndarray:
    """The samples of a page as stored, of any depth: (H, W) or (H, W, samples).

    Raises:
        Unreadable: the data are damaged or end early.
        Unsupported: numbers of a kind that is not taken.
    """
    kind = {"unsigned": "u", "untyped": "u", "signed": "i", "float": "f"}.get(page.number_type, "")
    whole = page.bits in ((32, 64) if kind == "f" else (8, 16, 32, 64))
    if not kind or not (whole or (kind == "u" and 8 < page.bits < 16)):
        raise Unsupported(f"a TIFF with {page} samples per pixel is not taken; export it as 8- or 16-bit grey")
    if not page.in_bytes:
        raise Unsupported(
            f"a TIFF with {page} samples per pixel in this compression is not taken; export it as 8- or 16-bit grey"
        )
    predictor = page.directory.number(_PREDICTOR, 1) if page.compression != UNCOMPRESSED else 1
    if predictor not in ((1, 2, 3) if kind == "f" else (1, 2)) or (predictor > 1 and not whole):
        raise Unsupported(f"a TIFF with {page} samples and predictor {predictor} is not taken; export it as 8- or 16-bit grey")
    samples = 1 if page.planar else page.samples
    planes = []
    for plane in range(page.planes):
        rows = _decoded(page, plane)  # uint8 (rows of blocks, columns of blocks, rows, bytes of a row)
        if not whole:
            values = _unpacked(rows, page.bits, page.block_width * samples)
        elif predictor == 3:
            values = _float_predicted(rows, page.bits // 8, samples)
        else:
            letter = f"{page.directory.order}{kind}{page.bits // 8}"
            values = (
                _predicted(rows.view(letter.replace(kind, "u")), samples).view(letter[1:])
                if predictor == 2
                else rows.view(letter)
            )
        down, across, height = values.shape[:3]
        values = values.reshape(down, across, height, page.block_width, samples).swapaxes(1, 2)
        values = values.reshape(down * height, across * page.block_width, samples)[: page.height, : page.width]
        planes.append(values)
    found = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
    return found[..., 0] if found.shape[-1] == 1 else found


def image(page: TiffPage) -> ImageFile.ImageFile:
    """A page of at most 8 bits a sample, opened by the library: not yet decoded, not yet grey, not yet upright."""
    _silence()
    return opened(TiffImageFile, _written(page, _entries(page)), "TIFF", what=str(page))


def _decoded(page: TiffPage, plane: int) -> np.ndarray:
    """The blocks of one plane without compression: uint8 (down, across, rows, bytes of a row); short last strips are filled with 0."""
    down, across = page.grid
    shape = (down, across, page.block_height, page.row_bytes)
    blocks = slice(plane * down * across, (plane + 1) * down * across)
    offsets, sizes = page.offsets[blocks], page.sizes[blocks]
    if page.compression == UNCOMPRESSED:
        found = np.zeros(shape, np.uint8) if sizes[-1] != sizes[0] else np.empty(shape, np.uint8)
        flat = found.reshape(down * across, -1)
        for place, (offset, size) in enumerate(zip(offsets.tolist(), sizes.tolist(), strict=True)):
            flat[place, :size] = np.frombuffer(page.directory.data, np.uint8, size, offset)
        return _REVERSED[found] if page.directory.number(_FILL_ORDER, 1) == 2 else found
    # The library sees a grey picture of bytes: it takes the compression away and has nothing to interpret.
    _silence()
    height = down * page.block_height if page.tiled else page.height
    opening = opened(TiffImageFile, _written(page, _bytes_entries(page, offsets, sizes, height)), "TIFF", what=str(page))
    load(opening)
    flat = np.asarray(opening)
    if flat.shape != (height, across * page.row_bytes) or flat.dtype != np.uint8:
        raise Unreadable("the TIFF pixel data are damaged; copy it again from its source")
    if page.tiled:
        return np.ascontiguousarray(flat.reshape(down, page.block_height, across, page.row_bytes).swapaxes(1, 2))
    return np.pad(flat, ((0, down * page.block_height - height), (0, 0))).reshape(shape)


def _unpacked(rows: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Numbers of 9 to 15 bits without gaps, the highest bit first: uint16 (…, count)."""
    found = np.empty((*rows.shape[:-1], count), np.uint16)
    powers = (1 << np.arange(bits - 1, -1, -1)).astype(np.float32)  # float32 is exact to 24 bits, and multiplied fast
    source, target = rows.reshape(-1, rows.shape[-1]), found.reshape(-1, count)
    step = max(1, 2**20 // rows.shape[-1])
    for top in range(0, len(source), step):
        single = np.unpackbits(source[top : top + step], axis=-1)[:, : count * bits]
        target[top : top + step] = single.reshape(len(single), count, bits).astype(np.float32) @ powers
    return found


def _predicted(values: np.ndarray, samples: int) -> np.ndarray:
    """Undo horizontal differencing (TIFF 6.0, section 14): each number was stored as its difference from the one to the left."""
    native = values.astype(values.dtype.newbyteorder("="))
    apart = native.reshape(*native.shape[:-1], -1, samples)
    return np.cumsum(apart, axis=-2, dtype=native.dtype).reshape(native.shape)


def _float_predicted(rows: np.ndarray, size: int, samples: int) -> np.ndarray:
    """Undo the floating-point predictor (Adobe's Technical Note 3): bytes of a row by significance, each as its difference."""
    summed = np.cumsum(rows.reshape(*rows.shape[:-1], -1, samples), axis=-2, dtype=np.uint8).reshape(*rows.shape[:-1], size, -1)
    return np.ascontiguousarray(np.moveaxis(summed, -2, -1)).view(f">f{size}")[..., 0]


def _entries(page: TiffPage) -> Entries:
    """The directory of a page for the library, with all that its decoders need."""
    directory = page.directory
    found = _layout(page, page.width, page.height, page.block_width, page.offsets, page.sizes)
    found |= _short(258, *[page.bits] * page.samples) | _short(262, page.photometric) | _short(277, page.samples)
    found |= _short(284, 2 if page.planar else 1) | _short(_PREDICTOR, directory.number(_PREDICTOR, 1))
    if page.photometric == 3:
        found |= _copied(page, _COLOUR_MAP, 3 << page.bits)
        if _COLOUR_MAP not in found:
            raise Unreadable("the TIFF lacks its palette; export it again")
    extra = directory.numbers(_EXTRA_SAMPLES, page.samples).tolist()
    if extra and all(0 <= one <= 2 for one in extra):
        found |= _short(_EXTRA_SAMPLES, *extra)
    elif page.photometric == 2 and page.samples > 3:  # writers forget to say that it is transparency, which is dropped
        found |= _short(_EXTRA_SAMPLES, *[0] * (page.samples - 3))
    for tag, count in _PASSED_ON.items():
        found |= _copied(page, tag, count)
    return found


def _bytes_entries(page: TiffPage, offsets: np.ndarray, sizes: np.ndarray, height: int) -> Entries:
    """The directory of one plane as a grey picture of its bytes."""
    found = _layout(page, page.grid[1] * page.row_bytes, height, page.row_bytes, offsets, sizes)
    return found | _short(258, 8) | _short(262, 1) | _short(277, 1) | _copied(page, _FILL_ORDER, 1)


def _layout(page: TiffPage, width: int, height: int, across: int, offsets: np.ndarray, sizes: np.ndarray) -> Entries:
    found = _long(256, width) | _long(257, height) | _short(259, page.compression)
    if page.tiled:
        return found | _long(322, across) | _long(323, page.block_height) | _long(324, *offsets) | _long(325, *sizes)
    return found | _long(278, page.block_height) | _long(273, *offsets) | _long(279, *sizes)


def _short(tag: int, *values: int) -> Entries:
    return {tag: (_SHORT, len(values), np.array(values, np.uint16).tobytes())}


def _long(tag: int, *values: int) -> Entries:
    return {tag: (_LONG, len(values), np.array(values, np.uint32).tobytes())}


def _copied(page: TiffPage, tag: int, count: int | None) -> Entries:
    found = page.directory.tags.get(tag)
    if found is None or found.size > _MOST or found.kind not in _SIZES or (count is not None and found.count != count):
        return {}
    values = page.directory.raw(tag)
    size = _SIZES[found.kind]
    if page.directory.order == ">" and size > 1:
        values = np.frombuffer(values, f">u{size}").astype(f"<u{size}").tobytes()
    return {tag: (found.kind, found.count, values)}


def _written(page: TiffPage, entries: Entries) -> bytes:
    """A classic TIFF: the whole file, and behind it the one directory that its header now points to."""
    data, order = page.directory.data, page.directory.order
    at = len(data) + len(data) % 2
    if at + 2**24 > 2**32:
        raise Unsupported("a TIFF of more than 4 GB is not taken; export its slices as single images")
    body, rows = [], []
    for tag, (kind, count, values) in sorted(entries.items()):
        size = _SIZES[kind]
        if order == ">" and size > 1:
            values = np.frombuffer(values, f"<u{size}").astype(f">u{size}").tobytes()
        if len(values) <= 4:
            rows.append(struct.pack(order + "HHI", tag, kind, count) + values.ljust(4, b"\0"))
        else:
            rows.append(struct.pack(order + "HHII", tag, kind, count, at))
            values += b"\0" * (len(values) % 2)
            body.append(values)
            at += len(values)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    directory = struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4)
    return b"".join([header, memoryview(data)[8:], b"\0" * (len(data) % 2), *body, directory])


@cache
def _silence() -> None:
    """libtiff writes what it finds damaged on file descriptor 2; it stands in the row's error instead. Pillow has no switch for it."""
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        handler = getattr(library, name, None)  # none where Pillow hides its libtiff, as on Windows
        if handler is not None:
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
