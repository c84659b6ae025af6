"""Manifest rows → images read, decoded and cropped: the one way to a crop, for scoring, for training and for `btc-ray crop`.

It never raises because of an image, and a private path is in no text of its rows.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import pyarrow as pa

from btc_ray.archive.reader import ByteReader
from btc_ray.images.batch import prepare_batch
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

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        prepared = prepare_batch(rows, self._contents(rows), self._preprocess, described=self._described)
        prepared = without_paths(prepared, rows)
        return prepared if self._described else with_study(prepared, rows)

    def _contents(self, rows: list[dict[str, Any]]) -> Iterator[bytes | Exception]:
        """The bytes of each row; neighbours that are frames of one file have it read once."""
        files = [file_key(row) for row in rows]
        first = [at for at, key in enumerate(files) if at == 0 or key != files[at - 1]]
        contents = self._reader.read_many([rows[at] for at in first])
        content: bytes | Exception = b""
        for at, key in enumerate(files):
            if at == 0 or key != files[at - 1]:
                content = next(contents)
                if rows[at].get("kind") == "nifti" and isinstance(content, bytes):
                    content = whole_volume(content, rows[at], self._reader)
            yield content
