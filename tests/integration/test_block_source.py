"""Blocks reach the workers that work on them, and no process reads for another."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from btc_ray.archive.blocks import write_blocks
from btc_ray.storage import Place

pytestmark = pytest.mark.ray


class Signing:
    """A worker that signs its rows."""

    def __call__(self, block: pa.Table) -> pa.Table:
        assert len(block) == 10, "a block is not given whole"
        return block.append_column("worker", pa.array([os.getpid()] * len(block)))


def test_a_worker_reads_the_blocks_that_it_works_on(tmp_path: Path, ray_here: None) -> None:
    from btc_ray.workers.blocks import read_blocks
    from btc_ray.workers.pool import Pool, data_context

    Place(str(tmp_path / "manifest.parquet")).write_table(pa.table({"row_id": range(100)}))
    assert write_blocks([Place(str(tmp_path / "manifest.parquet"))], Place(str(tmp_path / "blocks")), rows_each=10) == 10
    workers = Pool(cpus=2).cpu_workers()  # all there are: a task that asked for another would never run
    with data_context():
        blocks = read_blocks(Place(str(tmp_path / "blocks")))
        found = blocks.map_batches(Signing, batch_size=None, batch_format="pyarrow", **workers).materialize()
    rows = found.to_pandas()
    assert sorted(rows["row_id"]) == list(range(100))
    assert 1 <= rows["worker"].nunique() <= 2
    assert "ReadBlocks->MapBatches(Signing)" in found.stats()


def test_batches_are_slices_of_a_block_in_order() -> None:
    from btc_ray.workers.blocks import batches

    found = [batch["row_id"].to_pylist() for batch in batches(pa.table({"row_id": range(10)}), 4)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
