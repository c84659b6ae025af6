"""A NIfTI volume in two files, a header (.hdr) and its voxels (.img) beside it: read as the one file that it could be."""

import struct
from collections.abc import Mapping
from typing import Any

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.studies.header import unpacked

ANALYZE = "Analyze 7.5, which does not say which side is left; save it as NIfTI"
_SINGLE = {b"ni1\0": b"n+1\0", b"ni2\0": b"n+2\0"}
_ENDS = {".hdr": (".img", ".img.gz"), ".HDR": (".IMG",)}


def whole_volume(data: bytes, row: Mapping[str, Any], reader: ByteReader) -> bytes:
    """A file's bytes; of the header of a pair, header and voxels as one file. `row`: of the manifest or the index.

    A header whose voxels are not beside it, and one within an archive, comes as it is, which no picture can be made of.
    """
    uri = row["uri"].partition("#slice=")[0]
    at = _magic(data)
    if at is None or row.get("container"):
        return data
    for end in _ENDS.get(uri[-4:], ()):
        try:
            image = reader.read(uri=uri[:-4] + end)
        except ReadError as error:
            if error.status == "failed":
                continue
            return data
        return _joined(data, image, at)
    return data


def is_analyze(data: bytes, name: str) -> bool:
    """Whether a file is the header of an Analyze volume, which NIfTI came from."""
    size = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
    return (
        name.lower().endswith(".hdr") and 348 in size and len(data) >= 348 and data[344:348] not in (*_SINGLE, *_SINGLE.values())
    )


def _magic(data: bytes) -> int | None:
    """Where the mark of a header of a pair stands; None in any other file."""
    return 344 if data[344:348] == b"ni1\0" else 4 if data[4:8] == b"ni2\0" else None


def _joined(header: bytes, image: bytes, at: int) -> bytes:
    """One file: the header, which says that voxels follow, four bytes for no extension, and the voxels. `at`: where its mark stands."""
    size, kind, offset = (348, "f", 108) if at == 344 else (540, "q", 168)  # NIfTI-1 and NIfTI-2, and where vox_offset stands
    order = "<" if int.from_bytes(header[:4], "little") == size else ">"
    found = bytearray(header[:size].ljust(size, b"\0"))
    (skipped,) = struct.unpack_from(f"{order}{kind}", found, offset)
    found[at : at + 4] = _SINGLE[header[at : at + 4]]
    struct.pack_into(f"{order}{kind}", found, offset, size + 4)
    return bytes(found) + bytes(4) + unpacked(image)[int(skipped) if 0 < skipped < len(image) else 0 :]
