"""What a file says about itself before it is decoded: its kind, size, frames, and whether its end is there.

Everything here reads a few bytes and promises to raise `Unreadable` or `Unsupported`, in words for a person, instead of guessing.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from btc_ray.errors import UserError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TAKEN = ("JPEG", "PNG", "BMP", "TIFF", "WebP")
# (offset, magic bytes, what it is, what to do): files that end up in image folders and are not pictures we take.
_REFUSED: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"GIF8", "a GIF", "save it as PNG"),
    (128, b"DICM", "a DICOM file", "export its slices as PNG"),
    (344, b"n+1\0", "a NIfTI volume", "export its slices as PNG"),
    (344, b"ni1\0", "a NIfTI header", "export the volume's slices as PNG"),
    (0, b"NRRD000", "an NRRD volume", "export its slices as PNG"),
    (0, b"MATLAB 5.0", "a MATLAB file", "export its images as PNG"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 (or new MATLAB) file", "export its images as PNG"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", "save it as PNG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", "save it as PNG"),
    (0, b"\xff\x0a", "a JPEG XL image", "save it as PNG"),
    (4, b"ftypavif", "an AVIF image", "save it as PNG"),
    (4, b"ftyphei", "an HEIC image", "save it as PNG"),
    (4, b"ftypmif1", "an HEIC image", "save it as PNG"),
    (4, b"ftyp", "a video", "export single frames as PNG"),
    (0, b"8BPS", "a Photoshop file", "save it as PNG"),
    (0, b"%PDF", "a PDF", "export its pictures as PNG"),
    (0, b"PK\x03\x04", "a ZIP archive", "give it a name that ends in .zip, or unpack it"),
    (0, b"\x1f\x8b", "a gzip file (perhaps .nii.gz or .tar.gz)", "unpack it"),
    (0, b"\0\0\x01\0", "a Windows icon", "save it as PNG"),
)


class ImageError(UserError):
    """A file that gives no picture; the message says why, for a person."""


class Unreadable(ImageError):  # noqa: N818  (named as the status it becomes)
    """The bytes are broken: empty, cut short, damaged, or not an image at all."""


class Unsupported(ImageError):  # noqa: N818  (named as the status it becomes)
    """A sound file of a kind that is not taken: another format, several frames, too many pixels."""


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    width: int
    height: int
    bit_depth: int


def identify(data: bytes) -> str:
    """Return "JPEG", "PNG", "BMP", "TIFF" or "WebP" by the first bytes, whatever the file is called.

    Raises:
        Unreadable: the file is empty, text, or nothing known.
        Unsupported: it is a known kind of file that is not taken.
    """
    if not data:
        raise Unreadable("the file is empty (0 bytes); copy it again from its source")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for offset, magic, name, advice in _REFUSED:
        if data[offset : offset + len(magic)] == magic:
            raise Unsupported(f"this is {name}, which is not taken; {advice} (taken are {', '.join(_TAKEN)})")
    if data.startswith(b"BM"):
        return "BMP"
    raise Unreadable(f"this is not an image: {_describe(data)}")


def _describe(data: bytes) -> str:
    """Say what unknown bytes look like: an error page saved as .jpg and a failed copy want different cures."""
    start = data[:200]
    if not any(data):
        return f"all {len(data):,} bytes are zero, as after a failed copy"
    for sound in (PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*"):
        if sound.startswith(start):
            return f"the file ends after {len(data)} bytes, within its first mark; copy it again from its source"
    text = start.decode("utf-8", "ignore")
    # A few bytes may be lost where the cut at 200 splits a character.
    if len(text.encode()) > len(start) - 4 and all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text):
        return f"it holds text, beginning with {text[:40]!r}"
    return f"it begins with the bytes {start[:8].hex(' ')}, which no image format does"


def cut_short(what: str) -> Unreadable:
    """The one wording for every truncated file."""
    return Unreadable(f"the file is cut short ({what}); copy it again from its source")


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


def check_jpeg_end(data: bytes, scan_start: int) -> None:
    """Raise `Unreadable` where no end-of-image mark follows the scan that starts at byte `scan_start`.

    Looking behind the start of the scan matters: an EXIF thumbnail has an end mark of its own. Inside a scan FF is always
    escaped, so FF D9 is the true end there; between the scans of a progressive file libjpeg itself waits for the end.
    """
    if data.find(b"\xff\xd9", scan_start) < 0:
        raise cut_short("a JPEG without its end mark")


def read_png(data: bytes) -> PngHeader:
    """Walk all chunks of a PNG to its end mark, comparing every checksum, and return what its header says.

    Raises:
        Unreadable: a chunk is missing, cut short or damaged.
        Unsupported: the file is animated (APNG).
    """
    header: PngHeader | None = None
    has_pixels = False
    for kind, body in _png_chunks(data):
        if header is None:
            if kind != b"IHDR" or len(body) != 13:
                raise Unreadable("the PNG does not begin with its header; copy it again from its source")
            width, height, bit_depth = struct.unpack_from(">IIB", body)
            header = PngHeader(width=width, height=height, bit_depth=bit_depth)
        elif kind == b"acTL" and len(body) >= 4:
            frames = struct.unpack_from(">I", body)[0]
            if frames > 1:
                raise several(frames, "frames")
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            if not has_pixels:
                raise Unreadable("the PNG holds no pixel data; save it again")
            return header
    raise cut_short("a PNG without its end mark")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise cut_short("in the middle of a PNG chunk")
        # The checksum covers the chunk's name and body; zlib.crc32 runs at over 1 GB/s, so this costs next to nothing.
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Unreadable(f"the PNG is damaged: the checksum at byte {end - 4:,} is wrong; copy it again from its source")
        yield kind, view[at + 8 : end - 4]
        at = end


def read_webp(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a WebP from its first chunk.

    Raises:
        Unreadable: shorter than it says, or with an unknown first chunk.
        Unsupported: animated.
    """
    if len(data) < 30:
        raise cut_short("within the WebP header")
    if len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise cut_short("shorter than the WebP header says")
    first = data[12:16]
    if first == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if data[20] & 0b10:
            raise several(max(2, data.count(b"ANMF", 30)), "frames")
        return width, height
    if first == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if first == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Unreadable("the WebP file is damaged: its first chunk is unknown; copy it again from its source")


def several(count: int, what: str) -> Unsupported:
    """The one wording for files that hold more than one picture."""
    return Unsupported(f"holds {count:,} {what}; export the slices as single images")
