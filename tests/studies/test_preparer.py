"""A file of several frames is read once for all the batches that its frames are in."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.archive.reader import ByteReader
from btc_ray.images.prepare import Preprocess
from btc_ray.studies.preparer import Preparer
from tests.images.formats.dicom_files import dicom, head

FRAMES = 6


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URIs that are read, as they are."""
    seen: list[str] = []
    plain = ByteReader.read

    def counted(self: ByteReader, row: Any = None, /, **fields: Any) -> bytes:
        seen.append(row["uri"])
        return plain(self, row, **fields)

    monkeypatch.setattr(ByteReader, "read", counted)
    return seen


def _rows(uri: str) -> list[dict[str, Any]]:
    return [{"row_id": at, "uri": f"{uri}#frame={at}", "frame": at, "kind": "dicom"} for at in range(FRAMES)]


def test_batches_of_one_file_read_and_hash_it_once(tmp_path: Path, read: list[str]) -> None:
    file, single = tmp_path / "many", tmp_path / "one"
    file.write_bytes(dicom(np.stack([head(seed=at) for at in range(FRAMES)]), frames=FRAMES))
    single.write_bytes(dicom(head()))
    rows = [*_rows(str(file)), {"row_id": FRAMES, "uri": str(single), "frame": 0, "kind": "dicom"}]
    prepare = Preparer(Preprocess(size=32))
    tables = [prepare(pa.Table.from_pylist(rows[start : start + 2])) for start in range(0, len(rows), 2)]
    found = pa.concat_tables(tables)
    assert found["status"].to_pylist() == ["ok"] * (FRAMES + 1)
    assert len(set(found["pixels"].to_pylist()[:FRAMES])) == FRAMES
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, single)]
    assert found["content_sha256"].to_pylist() == [digests[0]] * FRAMES + [digests[1]]
    assert read == [f"{file}#frame=0", str(single)]


def test_a_file_that_cannot_be_read_is_tried_once_a_batch(tmp_path: Path, read: list[str]) -> None:
    table = Preparer(Preprocess(size=32))(pa.Table.from_pylist(_rows(str(tmp_path / "gone"))))
    assert table["status"].to_pylist() == ["failed"] * FRAMES
    assert len(read) == 1
