"""Files that are none of ours: what a foreign format is called, and what unknown bytes look like, without quoting any of them."""

import re
from typing import NoReturn

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats.registry import FORMATS

# (offset, magic bytes, what it is, what to do): files that end up in image folders and are not pictures we take.
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"GIF8", "a GIF", "save it as PNG"),
    (0, b"NRRD000", "an NRRD volume", "export its slices as PNG"),
    (0, b"MATLAB 5.0", "a MATLAB file", "export its images as PNG"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 (or new MATLAB) file", "export its images as PNG"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", "save it as PNG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", "save it as PNG"),
    (0, b"\xff\x0a", "a JPEG XL image", "save it as PNG"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", "save it as PNG"),
    (0, b"II\xbc", "a JPEG XR image", "save it as PNG"),
    (4, b"ftypavi", "an AVIF image", "save it as PNG"),
    (4, b"ftyphe", "an HEIC image", "save it as PNG"),
    (4, b"ftypmif1", "an HEIC or AVIF image", "save it as PNG"),
    (4, b"ftypmsf1", "an HEIC or AVIF image", "save it as PNG"),
    (4, b"ftypjp2", "a JPEG 2000 image", "save it as PNG"),
    (4, b"ftyp", "a video", "export single frames as PNG"),
    (0, b"8BPS", "a Photoshop file", "save it as PNG"),
    (0, b"%PDF", "a PDF", "export its pictures as PNG"),
    (0, b"PK\x03\x04", "a ZIP archive", "give it a name that ends in .zip, or unpack it"),
    (0, b"\x1f\x8b", "a gzip file (perhaps .nii.gz or .tar.gz)", "unpack it"),
    (0, b"BZh", "a bzip2 file", "unpack it"),
    (0, b"\xfd7zXZ\0", "an xz file", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "give it a name that ends in .tar, or unpack it"),
    (0, b"SIMPLE  =", "a FITS image", "save it as PNG"),
    (0, b"CDF\x01", "a NetCDF (or MINC) file", "export its slices as PNG"),
    (0, b"MATRIX7", "an ECAT volume", "export its slices as PNG"),
    (0, b"ObjectType", "a MetaImage header", "export its slices as PNG"),
    (0, b"NDims", "a MetaImage header", "export its slices as PNG"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", "save it as PNG"),
    (0, b"#?RADIANCE", "a Radiance image", "save it as PNG"),
    (0, b"qoif", "a QOI image", "save it as PNG"),
    (0, b"BPG\xfb", "a BPG image", "save it as PNG"),
    (0, b"gimp xcf", "a GIMP file", "save it as PNG"),
    (0, b"\x01\xda\0", "an SGI image", "save it as PNG"),
    (0, b"\x01\xda\1", "an SGI image", "save it as PNG"),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster image", "save it as PNG"),
    (0, b"DDS ", "a DirectDraw image", "save it as PNG"),
    (0, b"\0\0\x01\0", "a Windows icon", "save it as PNG"),
)

_PORTABLE = re.compile(rb"P[1-7Ff][\s#]")  # Netpbm: the only formats whose mark is a letter, a digit and white space
_PORTABLE_NAMES = {"1": "PBM", "4": "PBM", "2": "PGM", "5": "PGM", "3": "PPM", "6": "PPM", "7": "PAM", "F": "PFM", "f": "PFM"}
_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*")  # of formats that are taken


def refuse(data: bytes) -> NoReturn:
    """Say why a file of no format in the registry gives no picture.

    Raises:
        Unreadable: the file is empty, text, or nothing known.
        Unsupported: it is a known kind of file that is not taken.
    """
    if not data:
        raise Unreadable("the file is empty (0 bytes); copy it again from its source")
    taken = ", ".join(one.name for one in FORMATS)
    for offset, magic, name, advice in _FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            raise Unsupported(f"this is {name}, which is not taken; {advice} (taken are {taken})")
    if _PORTABLE.match(data):
        raise Unsupported(
            f"this is a {_PORTABLE_NAMES[chr(data[1])]} image, which is not taken; save it as PNG (taken are {taken})"
        )
    raise Unreadable(f"this is not an image: {_look(data)}")


def _look(data: bytes) -> str:
    """Say what unknown bytes look like: an error page saved as .jpg and a failed copy want different cures."""
    start = data[:1000]
    if not any(data):
        return f"all {len(data):,} bytes are zero, as after a failed copy"
    if any(mark.startswith(start) for mark in _MARKS):
        return f"the file ends after {len(data)} bytes, within its first mark; copy it again from its source"
    text = start.decode("utf-8", "ignore")
    # A few bytes may be lost where the cut splits a character.
    if len(text.encode()) > len(start) - 4 and all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text):
        words = text.lstrip("\ufeff \t\r\n").lower()
        if words.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in words:
            return "it is an HTML page, perhaps the error page of a server; fetch the image again"
        if "<svg" in words:
            return "it is an SVG drawing; save it as PNG"
        if words.startswith("version https://git-lfs"):
            return "it is a pointer of Git LFS in the place of a file; fetch it with git lfs pull"
        if ".git/annex/objects" in words or words.startswith("/annex/objects"):
            return "it is a pointer of git-annex in the place of a file; fetch it with git annex get"
        if words.startswith("<"):
            return "it is XML text; fetch the image again"
        return "it is text"
    return "it begins like no image format; copy it again from its source"
