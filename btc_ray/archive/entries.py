"""The records of this room: what a listing yields, and the errors a person can cause.

Every name that a listing meets becomes an `Entry` (a manifest row) or a `Skipped` (counted and named): nothing disappears.
"""

from dataclasses import dataclass
from typing import Literal

from btc_ray.errors import UserError
from btc_ray.storage import StorageError
from btc_ray.storage.limits import SIZE_LIMIT

__all__ = ["SIZE_LIMIT", "ArchiveError", "Entry", "NoImagesError", "ReadError", "Skipped", "Status"]

Status = Literal["unreadable", "unsupported", "failed"]


class ArchiveError(StorageError):
    """Inputs that cannot be listed at all: a mistyped path, a list without a `uri` column, a missing package."""


class NoImagesError(ArchiveError):
    """Inputs that can be listed and hold no image. `found` says what they hold instead."""

    def __init__(self, message: str, found: str) -> None:
        super().__init__(message)
        self.found = found


class ReadError(UserError):
    """One row's bytes cannot be had. `status` is `failed` (gone, forbidden, network), `unreadable` (broken data) or
    `unsupported`.
    """

    def __init__(self, message: str, *, status: Status) -> None:
        super().__init__(message)
        self.status: Status = status

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self), self.status)


def _restore(message: str, status: Status) -> ReadError:
    return ReadError(message, status=status)


SNIFF = "sniff"


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceOf:
    """What is known of a row that is one slice of a DICOM or NIfTI file, before it is read; `scores` has the same columns.

    `shown_uri` stands in every shared file in place of the URI, None where the URI itself may. `duplicate_of` is a row_id.
    """

    shown_uri: str | None = None
    slice_index: int | None = None
    position_mm: float | None = None
    plane: str | None = None
    oblique_deg: float | None = None
    patient_key: str | None = None
    exam_key: str | None = None
    series_key: str | None = None
    image_key: str | None = None
    duplicate_of: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One manifest row, before it has a number.

    `size` and `packed_size` are bytes, None when unknown. Members have `container` (URI of the archive), `offset` (zip: of the
    local header; tar: of the data; compressed tar: of the data in the decompressed stream) and `packing` (`stored`, `deflate`,
    `bzip2`, `lzma`, `tar`, `tar.gz`, `tar.bz2`, `tar.xz`). With `problem_status` the row is known to fail; `problem` says why
    to a person. `kind` is `dicom` or `nifti`, None for pictures, SNIFF while only the content can tell; `frame` counts from 0, and then
    the URI ends in `#frame=7` or `#slice=7` where its file has several; `series` is the key of its series. `version` changes when the
    file, or the archive that the member is in, does (see `versions`).
    """

    uri: str
    size: int | None = None
    container: str | None = None
    offset: int | None = None
    packed_size: int | None = None
    packing: str | None = None
    problem_status: Status | None = None
    problem: str | None = None
    kind: str | None = None
    frame: int | None = None
    series: str | None = None
    slice: SliceOf | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """Something met while listing that is no row, and why."""

    uri: str
    reason: str
