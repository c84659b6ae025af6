"""The pictures that pages show of a run's rows: the frame of a row, and none where a person's name may be burned into it."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.scoring.folder import RunFolder
from btc_ray.studies.shown import BURNED_IN, MAY_BE_BURNED_IN, picture_of_row

NOT_HERE = "not shown: the list of where the images are (RUN/private, where paths are private) is not here"


def burned_in(folder: RunFolder) -> frozenset[str]:
    """The keys of the series whose pixels say, or are suspected, to hold writing."""
    known = folder.series_known
    if not known.exists():
        return frozenset()
    table = known.read_table()
    pairs = zip(table["series_key"].to_pylist(), table["burned_in"].to_pylist(), strict=True)
    return frozenset(key for key, said in pairs if said in MAY_BE_BURNED_IN)


class Pictures:
    """A row of scores, by its `row_id` → what a page shows of it: the bytes of a picture file, or one frame, uint8 (H, W); nothing of
    the series `hidden`."""

    def __init__(self, folder: RunFolder, reader: ByteReader, *, hidden: Collection[str]) -> None:
        self._folder, self._reader, self._hidden = folder, reader, hidden

    def __call__(self, row: Mapping[str, Any]) -> bytes | np.ndarray:
        """Raises ReadError where it cannot be read or is not to be shown, and what decoding raises."""
        try:
            listed = self._folder.manifest_row(row["row_id"])
        except FileNotFoundError:
            raise ReadError(NOT_HERE, status="failed") from None
        if listed.get("series_key") in self._hidden:
            raise ReadError(BURNED_IN, status="unsupported")
        return picture_of_row(listed, self._reader)
