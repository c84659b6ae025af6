"""What each file of a labelled data set is: format, mode, brightness, histogram, small whole frame; written beside its crop."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.dataset.crops import Crops
from btc_ray.dataset.stored import some
from btc_ray.images.batch import DESCRIPTION
from btc_ray.images.describe import BINS, FRAME
from btc_ray.storage import Place


@dataclass(frozen=True, kw_only=True)
class Properties:
    """DESCRIPTION of every row of a labelled table, in its order: `table` without the frames, which stay on the disk, 4 KB each."""

    table: pa.Table
    folder: Place

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """The small whole frames of these rows (rising positions), none of which is null: uint8 (n, FRAME, FRAME)."""
        row_ids = self.table["row_id"].to_numpy()[rows]
        return some(self.folder, "frame", row_ids, (FRAME, FRAME))

    def histograms(self, rows: np.ndarray) -> np.ndarray:
        """The histograms of these rows, none of which is null: float32 (n, BINS)."""
        return np.frombuffer(b"".join(self.table["histogram"].take(rows).to_pylist()), np.float32).reshape(-1, BINS)


def image_properties(crops: Crops) -> Properties:
    """What every file is whose crops were made `described`."""
    filesystem, path = crops.folder.arrow()
    names = ["row_id", *(field.name for field in DESCRIPTION if field.name != "frame")]
    found = pq.read_table(path, filesystem=filesystem, columns=names).sort_by("row_id").combine_chunks()
    return Properties(table=found, folder=crops.folder)
