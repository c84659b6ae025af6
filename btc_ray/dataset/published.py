"""Whose the images of the published data set are: a table that comes with the package, recognised by file names and checked by pixels.

The slices of tumours in `brain-tumor-mri` (Kaggle, M. Nickparvar) are those of the figshare brain tumour data set, whose authors say
whose each slice is. J. Cheng, doi 10.6084/m9.figshare.1512427, CC BY 4.0. `python -m benchmarks.patients` makes the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.archive.entries import ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.images.decode import ImageError, decode
from btc_ray.progress import say
from btc_ray.storage import Options

FILE = Path(__file__).parent / "data" / "published_patients.parquet"
SOURCE = "figshare brain tumour data set (J. Cheng, doi 10.6084/m9.figshare.1512427, CC BY 4.0)"
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # the file's name
        pa.field("patient", pa.string(), nullable=False),  # numbers are ours
        pa.field("examination", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # what figshare calls it, where the file's folder contradicts that
        pa.field("pixels", pa.binary(32), nullable=False),  # `pixel_print`
    ]
)
SIDE, LEVELS = 8, 16  # of a pixel print: 64 squares of 4 bits
NEAR = 0.15  # mean difference of levels up to which two pictures are one: benchmarks/patients.py measures it
LEAST_NAMES = 0.5  # share of the data's images, or of the table's, whose names are in both
CHECKED, LEAST_ALIKE = 100, 0.95  # images whose pixels are looked at, and the share of them that must be the table's


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the table says of an image. `label`: the one that the data set's authors gave it, where its folder says otherwise."""

    patient: str
    examination: str
    label: str | None
    pixels: bytes


@cache
def published_table() -> Mapping[str, Published]:
    """File name → what is known of it."""
    rows = pq.read_table(FILE, schema=SCHEMA).to_pylist()
    return {row.pop("key"): Published(**row) for row in rows}


def pixel_print(grey: np.ndarray) -> bytes:
    """A picture, uint8 (H, W), as 8 × 8 means of equal squares in 16 levels: 32 bytes, the same at any size within a level."""
    rows, columns = (np.linspace(0, side, SIDE + 1) for side in grey.shape)
    sums = np.pad(grey.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    edges = _between(_between(sums, rows, axis=0), columns, axis=1)
    areas = np.outer(np.diff(rows), np.diff(columns))
    means = np.diff(np.diff(edges, axis=0), axis=1) / areas
    levels = np.clip(means * LEVELS / 256, 0, LEVELS - 1).astype(np.uint8).reshape(-1)
    return (levels[::2] * LEVELS + levels[1::2]).tobytes()


def _between(sums: np.ndarray, places: np.ndarray, *, axis: int) -> np.ndarray:
    """`sums` at places that may lie between two of its rows or columns."""
    low = np.minimum(places.astype(int), sums.shape[axis] - 2)
    share = (places - low).reshape((-1, 1) if axis == 0 else (1, -1))
    return sums.take(low, axis=axis) * (1 - share) + sums.take(low + 1, axis=axis) * share


def print_difference(one: bytes, other: bytes) -> float:
    """The mean difference of two pixel prints, in levels."""
    first, second = (_levels(pixels) for pixels in (one, other))
    return float(np.abs(first - second).mean())


def _levels(pixels: bytes) -> np.ndarray:
    packed = np.frombuffer(pixels, np.uint8)
    return np.stack([packed // LEVELS, packed % LEVELS], axis=1).astype(np.int16)


def recognise(table: pa.Table, options: Options) -> list[Published | None] | None:
    """What is known of each image of a labelled table, or None where it is not the published data set; says what was found.

    By the names of the files, which a majority must share, and then by the pixels of CHECKED of them, read here: names alone are no
    evidence.
    """
    known = published_table()
    names = [str(uri).rpartition("/")[2] for uri in table["uri"].to_pylist()]
    rows = [row for row, name in enumerate(names) if name in known]
    if len(rows) < LEAST_NAMES * len(names) and len({names[row] for row in rows}) < LEAST_NAMES * len(known):
        return None
    looked_at = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, CHECKED).astype(int))]
    listed = [table.slice(row, 1).to_pylist()[0] for row in looked_at]
    alike = 0
    for row, data in zip(looked_at, ByteReader(options).read_many(listed), strict=True):
        if isinstance(data, ReadError):
            continue
        try:
            found = pixel_print(decode(data))
        except ImageError:
            continue
        alike += print_difference(found, known[names[row]].pixels) <= NEAR
    if not alike:  # other pictures whose names follow the same pattern, as our phantoms' do
        return None
    if alike < LEAST_ALIKE * len(looked_at):
        say(
            f"{len(rows):,} files are called as in the published data set, but of {len(looked_at)} whose pixels were looked at only "
            f"{alike} are its images: its table of patients is not used."
        )
        return None
    say(
        f"Recognised by {len(rows):,} file names and the pixels of {len(looked_at)}: slices of the {SOURCE}, which says whose they are. "
        "--groups none leaves that aside."
    )
    return [known.get(name) for name in names]
