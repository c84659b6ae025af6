"""Files that may be DICOM or NIfTI → rows of the index: one plain function for a batch of files, run here or in other processes."""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from typing import Any

import pyarrow as pa

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.entries import ReadError
from btc_ray.archive.ranges import open_regular
from btc_ray.archive.reader import ByteReader
from btc_ray.images.formats import HEAD, sniff
from btc_ray.images.formats.dicom_header import is_dicom
from btc_ray.studies.header import dicom_rows, unpacked
from btc_ray.studies.index import index_table
from btc_ray.studies.nifti import is_nifti, nifti_rows
from btc_ray.studies.pairs import ANALYZE, is_analyze, whole_volume

_NIFTI_HEAD = 544  # bytes: the longer of its two headers


_GZIP = b"\x1f\x8b"
_LONGEST_POINTER = 1024  # bytes
_DICOM = bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0"


def studies_are_read() -> bool:
    """Whether `images.formats` has a format that reads DICOM: without one there is nothing to look into files for."""
    return sniff(_DICOM) is not None


def index_files(rows: Sequence[Mapping[str, Any]], options: storage.Options = None) -> pa.Table:
    """The index (INDEX) of manifest rows, whose `row_id` becomes `file_id`: at least one row a file, whatever is in it."""
    reader = ByteReader(options)
    return index_table([found for row in rows for found in _file(row, reader)])


def _file(row: Mapping[str, Any], reader: ByteReader) -> list[dict[str, Any]]:
    uri, file_id = row["uri"], row["row_id"]
    plain = {"file_id": file_id, "uri": uri, "frame": 0, "frames": 1}
    try:
        if not row.get("container") and storage.is_local(uri) and (found := _local(uri, file_id)):
            return found
        data = reader.read(row)
    except ReadError as error:
        return [plain | {"kind": "unread", "problem": str(error), "problem_status": error.status}]
    except OSError:
        data = reader.read(row) if os.path.exists(storage.local_path(uri)) else b""  # noqa: PTH110 — a string may hold any bytes
    name = names.last_name(uri)
    if not data:
        return [plain | _lost("the file is empty", name)]
    if pointer := _pointer(data):
        return [plain | {"kind": "unread", "problem": pointer, "problem_status": "unreadable"}]
    head = unpacked(data, _NIFTI_HEAD)
    if is_nifti(head):
        return _known(nifti_rows(whole_volume(data, row, reader), uri, file_id))
    if is_dicom(head):
        return _known(dicom_rows(unpacked(data), uri, file_id))
    if sniff(data[:HEAD]) is not None:
        return [plain | {"kind": "picture"}]
    if is_analyze(data, name):
        return [plain | {"kind": "unread", "problem": ANALYZE, "problem_status": "unsupported"}]
    return [plain | _lost("its content is neither DICOM nor NIfTI nor a picture; copy it again from its source", name)]


def _pointer(data: bytes) -> str | None:
    """What brings the content of a file that only says where it is; None for any other file."""
    if len(data) < _LONGEST_POINTER and (data.startswith(b"/annex/objects/") or b".git/annex/objects/" in data):
        return "a pointer of git-annex, whose content is not here: `git annex get` (or `datalad get`) brings it"
    if data.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, whose content is not here: `git lfs pull` brings it"
    return None


def _local(uri: str, file_id: int) -> list[dict[str, Any]] | None:
    """The rows of a loose DICOM file of this machine, read no further than its pixels; None for any other."""
    with os.fdopen(open_regular(storage.local_path(uri)), "rb") as file:
        head = file.read(_NIFTI_HEAD)
        if head[:2] == _GZIP or not is_dicom(head):
            return None
        file.seek(0)
        return _known(dicom_rows(file, uri, file_id))


def _known(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"problem_status": "unreadable"} if row.get("problem") else row for row in rows]


def _lost(problem: str, name: str) -> dict[str, Any]:
    """An image lost where the name says that there is one, else a file that is none."""
    if names.promises_study(name):
        return {"kind": "unread", "problem": problem, "problem_status": "unreadable"}
    return {"kind": "other"}


def pixel_digest(data: bytes) -> str:
    """sha256 of the pixels of a DICOM file as they are stored, or of the whole file where they cannot be told."""
    import pydicom

    try:
        dataset = pydicom.dcmread(BytesIO(unpacked(data)), force=True)
        return sha256(dataset.PixelData).hexdigest()
    except Exception:  # noqa: BLE001 — a damaged file is itself and no other
        return sha256(data).hexdigest()
