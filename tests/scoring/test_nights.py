"""Three nights on an archive that grows, changes and loses files: together they are one run over what is there in the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from btc_ray.cli import main
from btc_ray.storage import Place
from tests.archive.samples import zip_bytes
from tests.conftest import Bucket


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Place(str(tmp_path / "place"))
    bucket: Bucket = request.getfixturevalue("bucket")
    return Place(bucket.uri, bucket.options)


@pytest.fixture
def score(model: Path, place: Place) -> Callable[..., int]:
    options = ["--storage-options", *(f"{name}={value}" for name, value in place.options.items())] if place.options else []

    def run(output: Place, *flags: str) -> int:
        inputs = (place / "archive").uri
        return main(["score", "--model", str(model), "--input", inputs, "--output", output.uri, *flags, *options])

    return run


def table(run: Place, part: str) -> pd.DataFrame:
    place = run / part
    parts = [place] if part.endswith(".parquet") else place.files(".parquet")
    return pa.concat_tables([file.read_table() for file in parts]).to_pandas()


def test_three_nights_are_one_run_over_the_end(place: Place, score: Callable[..., Any], phantoms: Path) -> None:
    images = [path.read_bytes() for path in sorted((phantoms / "Testing").rglob("*.*"))]
    archive, runs = place / "archive", place / "runs"
    for number in range(5):
        (archive / f"{number}.jpg").write(images[number])
    (archive / "m.zip").write(zip_bytes([("x.jpg", images[5]), ("y.jpg", images[6])]))
    (archive / "broken.jpg").write(b"\xff\xd8 not much of a JPEG")
    nights = [runs / name for name in ("2026-01-01", "2026-01-02", "2026-01-03")]
    assert score(nights[0], "--known", (runs / "*").uri) == 0
    (archive / "5.jpg").write(images[7])  # grows
    (archive / "1.jpg").write(images[8])  # changes
    assert score(nights[1], "--known", (runs / "*").uri) == 0
    (archive / "2.jpg").remove()  # is lost
    (archive / "6.jpg").write(images[9])
    (archive / "5.jpg").write(images[10])
    (archive / "n.zip").write(zip_bytes([("z.jpg", images[11])]))
    assert score(nights[2], "--known", (runs / "*").uri) == 0
    assert score(place / "whole") == 0

    scored = pd.concat([table(night, "scores").assign(night=night.name) for night in nights])
    ok = scored[scored["status"] == "ok"]
    assert not ok.duplicated(["uri", "content_sha256"]).any()  # no image is scored twice
    assert ok.groupby("night").size().tolist() == [7, 2, 3]
    there = {*table(nights[2], "manifest")["uri"], *table(nights[2], "known.parquet")["uri"]}
    newest = scored.sort_values("night").drop_duplicates("uri", keep="last")
    newest = newest[newest["uri"].isin(there)].drop(columns=["night", "row_id"]).sort_values("uri", ignore_index=True)
    whole = table(place / "whole", "scores").drop(columns="row_id").sort_values("uri", ignore_index=True)
    pd.testing.assert_frame_equal(newest, whole, rtol=1e-4, atol=1e-4)
