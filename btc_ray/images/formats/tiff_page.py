"""The one picture of a TIFF file: its layout, checked against the file's length and the limits, before a decoder sees any of it."""

import re
from dataclasses import dataclass
from math import prod

import numpy as np

from btc_ray.images.errors import Unreadable, Unsupported, cut_short, several
from btc_ray.images.formats.tiff_tags import ORIENTATION, SUBFILE, Directory, read_directories
from btc_ray.images.limits import TIFF_STRIPS, check_memory, check_size

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _DESCRIPTION = 256, 257, 258, 259, 262, 270
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZES, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
_DEPTH, _STACK_PLANES = 32997, 33629  # ImageDepth of SGI; MetaMorph's stacks count their planes by the length of this tag
_SAMPLE_NAMES = {1: "unsigned", 2: "signed", 3: "float", 4: "untyped", 5: "complex", 6: "complex"}
_MOST_SAMPLES = 6  # CMYK with two more: what Pillow knows; of others it speaks through its log
UNCOMPRESSED = 1
_OF_BYTES = (
    UNCOMPRESSED,
    5,
    8,
    32773,
    32946,
    34925,
    50000,
)  # that take bytes whatever they mean: LZW, Deflate, PackBits, LZMA, Zstandard
# What the library decodes, and what others are called.
_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677, 34925, 50000, 50001)
_OTHER_COMPRESSIONS = {
    33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34661: "JBIG", 34715: "JBIG2", 34887: "LERC",
    34892: "lossy JPEG of DNG", 34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class TiffPage:
    """How the numbers of one picture lie in its file.

    A block is a strip or a tile; of planar pictures, which keep their channels apart, the blocks of the first channel come first.
    """

    directory: Directory
    width: int
    height: int
    bits: int  # of one sample
    samples: int  # of a pixel
    number_type: str
    photometric: int
    compression: int
    planar: bool
    orientation: int
    tiled: bool
    block_width: int
    block_height: int
    offsets: np.ndarray  # int64 (blocks,)
    sizes: np.ndarray  # int64 (blocks,), bytes

    @property
    def deep(self) -> bool:
        """Whether its numbers are not plain 0 to 255 and have to be scaled."""
        return self.bits > 8 or self.number_type != "unsigned"

    @property
    def in_bytes(self) -> bool:
        """Whether the compression is of bytes, so that it can be undone without knowing what they mean."""
        return self.compression in _OF_BYTES

    @property
    def planes(self) -> int:
        """How many times the picture's area is covered by blocks."""
        return self.samples if self.planar else 1

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of blocks of one plane."""
        return -(-self.height // self.block_height), -(-self.width // self.block_width)

    @property
    def row_bytes(self) -> int:
        """Of one row of a block, decoded."""
        return -(-self.block_width * (1 if self.planar else self.samples) * self.bits // 8)

    def block_rows(self, row: int) -> int:
        """How many rows the blocks of one row of the grid hold: the last strips are shorter, tiles are not."""
        return self.block_height if self.tiled else min(self.block_height, self.height - row * self.block_height)

    def __str__(self) -> str:
        return f"{self.samples} × {self.bits} bit {self.number_type}"


def read_page(data: bytes, max_pixels: int) -> TiffPage:
    """Read the directories of a TIFF file (classic or BigTIFF) and check that its pixel data lie within the file.

    Raises:
        Unreadable: a directory or pixel data lie outside the file.
        Unsupported: more than one full page or slice (previews and masks do not count), too large, or of a kind that is not taken.
    """
    directories = read_directories(data)
    if not directories:
        raise Unreadable("the TIFF holds no image; export it again")
    first, *others = directories
    # Bit 0 of NewSubfileType marks a reduced copy, bit 2 a transparency mask: neither is a slice of its own.
    count = 1 + sum(not page.number(SUBFILE, 0) & 0b101 for page in others)
    if count > 1:
        raise several(count, "pages")
    page = _page(first, max_pixels)
    if (slices := _slices(page)) > 1:
        raise several(slices, "slices behind one TIFF directory")
    return page


def _page(first: Directory, max_pixels: int) -> TiffPage:
    width, height = first.number(_WIDTH, 0), first.number(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    samples, compression = first.number(_SAMPLES, 1), first.number(_COMPRESSION, 1)
    if not 1 <= samples <= _MOST_SAMPLES:
        raise Unsupported(f"a TIFF of {samples:,} samples per pixel is not taken; export it as 8- or 16-bit grey")
    if compression not in _COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, f"number {compression}")
        raise Unsupported(f"this is a TIFF with compression {name}, which is not taken; save it as PNG or as uncompressed TIFF")
    bits = first.numbers(_BITS, samples)
    formats = first.numbers(_SAMPLE_FORMAT, samples)
    if len({*bits.tolist()}) > 1 or len({*formats.tolist()}) > 1:
        raise Unsupported("a TIFF whose channels differ in depth is not taken; export it as 8- or 16-bit grey")
    depth = int(bits[0]) if bits.size else 1
    if not 1 <= depth <= 64:
        raise Unreadable(f"the TIFF header says {depth:,} bits: the file is damaged; export it again")
    tiled = _TILE_OFFSETS in first.tags
    planar = samples > 1 and first.number(_PLANES, 1) == 2
    if tiled:
        across, down = first.number(_TILE_WIDTH, 0), first.number(_TILE_HEIGHT, 0)
    else:
        across, down = width, min(first.number(_ROWS_PER_STRIP, height) or height, height)
    if not 1 <= across <= 2**20 or not 1 <= down <= 2**20:
        raise Unreadable("the TIFF header has impossible strips or tiles: the file is damaged; export it again")
    blocks = -(-height // down) * -(-width // across) * (samples if planar else 1)
    if blocks > TIFF_STRIPS:
        raise Unsupported(f"a TIFF in {blocks:,} strips or tiles is not taken; save it again")
    page = TiffPage(
        directory=first,
        width=width,
        height=height,
        bits=depth,
        samples=samples,
        number_type=_SAMPLE_NAMES.get(int(formats[0]) if formats.size else 1, "unsigned"),
        photometric=first.number(_PHOTOMETRIC, 2 if samples >= 3 else 1),
        compression=compression,
        planar=planar,
        orientation=first.number(ORIENTATION, 1),
        tiled=tiled,
        block_width=across,
        block_height=down,
        offsets=first.numbers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS, blocks),
        sizes=first.numbers(_TILE_SIZES if tiled else _STRIP_SIZES, blocks),
    )
    # Decoded blocks, twice where a library decodes them, and what they become.
    rows, columns = page.grid
    decoded = rows * columns * page.planes * page.block_height * page.row_bytes if page.deep or tiled or planar else 0
    ordered = 8 if samples > 1 else depth // 8 if depth > 16 else 0  # luma of 32 bits, and the copy that percentiles are found in
    grey = width * height * (2 + ordered if page.deep else 5 if samples > 1 else 2)
    copies = 1 if compression == UNCOMPRESSED else 2
    strip = page.block_height * page.row_bytes if copies > 1 and not decoded else 0  # the library's buffer
    check_memory(copies * decoded + strip + grey, f"this TIFF of {width:,} × {height:,} × {page}", max_pixels)
    return _with_sizes(page, blocks)


def _with_sizes(page: TiffPage, blocks: int) -> TiffPage:
    """The page with one offset and size a block, none behind the end of the file."""
    length = len(page.directory.data)
    if page.offsets.size < blocks:
        raise Unreadable("the TIFF lacks some of its strips or tiles; export it again")
    rows = np.repeat([page.block_rows(row) for row in range(page.grid[0])], page.grid[1])
    full = np.tile(rows * page.row_bytes, page.planes)  # of each block, decoded
    sizes = page.sizes
    if sizes.size < blocks:  # some writers leave the sizes out
        if page.compression == UNCOMPRESSED:
            sizes = full
        elif blocks == 1:
            sizes = np.maximum(length - page.offsets, 0)
        else:
            raise Unreadable("the TIFF lacks the sizes of some of its strips or tiles; export it again")
    if (page.offsets < 8).any() or (sizes < 1).any():
        raise Unreadable("the TIFF lacks some of its strips or tiles; export it again")
    if page.compression == UNCOMPRESSED:
        if sizes.sum() >= 2 * full.sum():
            raise several(int(sizes.sum() // full.sum()), "slices behind one TIFF directory")
        if (sizes < full).any():
            raise cut_short("TIFF pixel data end early")
        sizes = full
    if (page.offsets > length - sizes).any():
        raise cut_short("its TIFF pixel data lie behind its end")
    if sizes.sum() > 2 * length + 2**16:
        raise Unreadable("the TIFF's strips share their bytes: the file is damaged; export it again")
    return TiffPage(**{**{name: getattr(page, name) for name in page.__dataclass_fields__}, "sizes": sizes})


_OME_SIZES = re.compile(rb'\bSize([ZCT])\s*=\s*"(\d{1,6})"')
_OME_FILES = re.compile(rb'\bFileName\s*=\s*"([^"]{1,500})"')
_IMAGEJ = re.compile(rb"^(?:images|slices|frames|channels)=(\d{1,6})\s*$", re.MULTILINE)
_SHAPE = re.compile(rb'"shape":\s*\[([\d,\s]{1,200})\]')


def _slices(page: TiffPage) -> int:
    """How many slices stand behind the one directory, as microscopes and ImageJ write them, told by tags or by the description."""
    directory = page.directory
    depth = max(directory.number(_DEPTH, 1), directory.tags[_STACK_PLANES].count if _STACK_PLANES in directory.tags else 1)
    text = directory.raw(_DESCRIPTION)[: 2**16]
    if text.startswith(b"ImageJ="):
        return max(depth, *(int(number) for number in _IMAGEJ.findall(text)), 1)
    if b"<OME" in text:
        if len({*_OME_FILES.findall(text)}) > 1:  # the other slices have files of their own
            return depth
        sizes = {name: int(number) for name, number in reversed(_OME_SIZES.findall(text))}  # of the first image
        return max(depth, prod(sizes.values()) // page.samples)
    if shape := _SHAPE.search(text):  # of tifffile
        count = prod(int(number) for number in shape[1].split(b",") if number.strip())
        return max(depth, count // (page.width * page.height * page.samples))
    return depth
