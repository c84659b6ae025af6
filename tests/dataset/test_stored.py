"""Pictures come out of Parquet files as they went in, whichever file they stand in."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.dataset.stored import mapped, some
from btc_ray.storage import Place

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 8, 8)).astype(np.uint8)
THERE = np.array([row for row in range(100) if row % 7])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, the later rows in the first, every seventh row without a picture."""
    pictures = pa.array([PIXELS[row].tobytes() if row % 7 else None for row in range(100)], pa.binary(64))
    table = pa.table(
        {"row_id": np.arange(100), "pixels": pictures, "status": ["ok" if row % 7 else "failed" for row in range(100)]}
    )
    Place(str(tmp_path / "a.parquet")).write_table(table.slice(60))
    Place(str(tmp_path / "b.parquet")).write_table(table.slice(0, 60))
    return tmp_path


def test_all_are_mapped_in_the_order_asked_for_and_leave_no_file_behind(folder: Path) -> None:
    found = mapped(Place(str(folder)), "pixels", THERE, (8, 8))
    assert np.array_equal(found, PIXELS[THERE])
    assert not found.flags.writeable
    assert sorted(path.name for path in folder.iterdir()) == ["a.parquet", "b.parquet"]


def test_some_are_read(folder: Path) -> None:
    assert np.array_equal(some(Place(str(folder)), "pixels", THERE[::9], (8, 8)), PIXELS[THERE[::9]])


def test_none_are_an_empty_array(folder: Path) -> None:
    assert mapped(Place(str(folder)), "pixels", THERE[:0], (8, 8)).shape == (0, 8, 8)


def test_rows_that_have_gone_are_an_error(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="lacks 1 images"):
        mapped(Place(str(folder)), "pixels", np.array([1, 2, 300]), (8, 8))
