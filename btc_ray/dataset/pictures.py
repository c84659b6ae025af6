"""What pages show of labelled images: whole pictures and crops, and nothing of a series that may have a name burned in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.dataset.table import to_read
from btc_ray.studies.shown import BURNED_IN, picture_of_row


class LabelledPictures:
    """A row by its place in a labelled table → its picture: the bytes of a picture file, or one frame, uint8 (H, W)."""

    def __init__(self, table: pa.Table, reader: ByteReader) -> None:
        self._rows, self._reader = to_read(table), reader

    def __call__(self, row: Mapping[str, Any]) -> bytes | np.ndarray:
        """The picture of the row `row_id`. Raises ReadError, and what decoding raises."""
        (listed,) = self._rows.slice(row["row_id"], 1).to_pylist()
        if listed["hidden"]:
            raise ReadError(BURNED_IN, status="unsupported")
        return picture_of_row(listed, self._reader)

    def crop(self, row_id: int, pixels: np.ndarray) -> np.ndarray:
        """A crop, uint8 (S, S), as a page may show it: black where it may hold a name."""
        return np.zeros_like(pixels) if self._rows["hidden"][row_id].as_py() else pixels
