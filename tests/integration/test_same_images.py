"""The same images as loose files, in a zip, in a tar and in a tar.gz give the same labels and probabilities."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.scoring.runs import rows, score


@pytest.fixture(scope="module")
def loose(model: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run = tmp_path_factory.mktemp("loose") / "run"
    assert score(model, [phantoms / "Testing"], run) == 0
    return rows(run)


@pytest.mark.parametrize("kind", ["zip", "stored.zip", "tar", "tar.gz", "tar.xz"])
def test_packed_images_score_as_loose_ones(model: Path, phantoms: Path, loose: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"images.{kind}"
    images = sorted((phantoms / "Testing").rglob("*.*"))
    if kind.endswith("zip"):
        packing = zipfile.ZIP_STORED if kind.startswith("stored") else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", packing) as archive:
            for image in images:
                archive.write(image, str(image.relative_to(phantoms / "Testing")))
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as archive:
            for image in images:
                archive.add(image, str(image.relative_to(phantoms / "Testing")))
    assert score(model, [path], tmp_path / "run", "--batch-size", "4") == 0
    packed = rows(tmp_path / "run")
    assert packed["uri"].str.removeprefix(f"{path}::").tolist() == [
        str(image.relative_to(phantoms / "Testing")) for image in images
    ]
    assert packed["content_sha256"].tolist() == loose["content_sha256"].tolist()
    assert packed["label"].tolist() == loose["label"].tolist()
    floats = [name for name in packed.columns if name.startswith("prob_")]
    assert (packed[floats] - loose[floats]).abs().to_numpy().max() < 1e-5


def test_a_hundred_images_need_no_ray(model: Path, phantoms: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from btc_ray.cli import main; "
        f"code = main(['score', '--model', {str(model)!r}, '--input', {str(phantoms)!r}, '--output', {str(tmp_path / 'run')!r}]); "
        "sys.exit(code or ('ray' in sys.modules) * 99)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
