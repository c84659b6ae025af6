"""Manifest rows → images read, decoded and cropped: the one way to a crop, for scoring, for training and for `btc-ray crop`.

It never raises because of an image, and a private path is in no text of its rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import pyarrow as pa

from btc_ray.archive import names
from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.images.batch import prepare_batch, sha256_of
from btc_ray.images.kept import Kept
from btc_ray.images.prepare import Preprocess
from btc_ray.storage import Options
from btc_ray.studies.pairs import whole_volume
from btc_ray.studies.shown import file_key, with_study, without_paths


class Preparer:
    """Manifest rows in, as many rows of `prepared_schema` out, in the same order, with the columns of STUDY. Plain CPU work, no model.

    `described`: with the columns of `images.batch.DESCRIPTION` in place of those of STUDY.
    """

    def __init__(self, preprocess: Preprocess, options: Options = None, *, described: bool = False) -> None:
        cv2.setNumThreads(1)  # parallelism is over images; OpenCV's own threads would fight over the same cores
        self._preprocess, self._described = preprocess, described
        self._reader = ByteReader(options)
        # Files of several frames are read and hashed once, not once a batch: 500 frames are 260 MB, and 63 batches of 8.
        self._files: Kept[tuple[Any, ...], _File] = Kept(size=lambda file: len(file.content))

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        hashed: list[_File] = []
        contents = self._contents(rows, hashed)

        def digest(content: bytes) -> str:
            return next((file.sha256 for file in hashed if file.content is content), None) or sha256_of(content)

        prepared = prepare_batch(rows, contents, self._preprocess, described=self._described, digest=digest)
        prepared = without_paths(prepared, rows)
        return prepared if self._described else with_study(prepared, rows)

    def _contents(self, rows: list[dict[str, Any]], hashed: list["_File"]) -> Iterator[bytes | Exception]:
        """The bytes of each row; files of several frames stand in `hashed` too."""
        single = self._reader.read_many([row for row in rows if not _has_several(row)])
        failed: tuple[tuple[Any, ...], ReadError] | None = None
        for row in rows:
            if not _has_several(row):
                content = next(single)
                yield self._whole(content, row) if isinstance(content, bytes) else content
                continue
            key = file_key(row)
            if failed is not None and failed[0] == key:  # it was tried, and waited for
                yield failed[1]
                continue
            try:
                file = self._files.get(key, partial(self._read, row))
            except ReadError as error:
                failed = key, error
                yield error
            else:
                if file not in hashed:
                    hashed.append(file)
                yield file.content

    def _read(self, row: dict[str, Any]) -> "_File":
        content = self._whole(self._reader.read(row), row)
        return _File(content, sha256_of(content))

    def _whole(self, content: bytes, row: dict[str, Any]) -> bytes:
        return whole_volume(content, row, self._reader) if row.get("kind") == "nifti" else content


@dataclass(frozen=True, eq=False)
class _File:
    content: bytes
    sha256: str


def _has_several(row: dict[str, Any]) -> bool:
    """Whether it is one of several frames of a file."""
    return row.get("frame") is not None and names.file_of(row["uri"]) != row["uri"]
