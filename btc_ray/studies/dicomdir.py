"""A DICOMDIR: the index of the images on a CD. No source of rows, for files are found by themselves; it tells which of them are missing."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from btc_ray.images.formats.dicom_header import quiet

MISSING = "the index of its disc names this image, and it is not there; copy the whole disc again"
_NOT_IN_A_NAME = ("", ".", "..")


def named_images(data: bytes) -> list[str]:
    """The images that a DICOMDIR names, as paths relative to its folder (`DICOM/IM0001`), each once; none where it cannot be read."""
    import pydicom

    quiet()
    try:
        records = pydicom.dcmread(BytesIO(data), force=True).get("DirectoryRecordSequence") or ()
        found = [_path(record) for record in records if record.get("DirectoryRecordType") == "IMAGE"]
    except Exception:  # noqa: BLE001 — pydicom raises whatever a damaged file leads it to; its images are found by themselves
        return []
    return list(dict.fromkeys(path for path in found if path is not None))


def missing(named: Sequence[str], there: Iterable[str]) -> list[str]:
    """Those of `named` that are not `there` (paths relative to the same folder); none where not one is: an index that came alone.

    Discs are copied with names in small letters, with the version number of ISO 9660 (`IM0001;1`) or an extension.
    """
    found = {_plain(path) for path in there}
    lost = [path for path in named if _plain(path) not in found]
    return [] if len(lost) == len(named) else lost


def _path(record: Any) -> str | None:
    file_id = record.get("ReferencedFileID")
    parts = [file_id] if isinstance(file_id, str) else [str(part) for part in file_id or ()]
    parts = [part for text in parts for part in text.replace("\\", "/").split("/")]
    return None if not parts or any(part in _NOT_IN_A_NAME for part in parts) else "/".join(parts)


def _plain(path: str) -> str:
    folder, _, name = path.casefold().rpartition("/")
    return f"{folder}/{name.partition(';')[0].removesuffix('.dcm')}"
