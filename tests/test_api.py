"""Python's door: the same rows as the command, and wrong arrays refused rather than answered."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

import btc_ray
from btc_ray.errors import RefusedError, UserError
from btc_ray.model.engines.choose import open_engine
from btc_ray.scoring.table import scores_schema
from btc_ray.storage import Place
from tests.scoring.runs import rows, score
from tests.scoring.test_dicom_run import slices
from tests.studies.made import head, nifti

PYTHON = Path(__file__).resolve().parents[1] / "docs" / "python.md"


@pytest.fixture(scope="module")
def images(phantoms: Path) -> list[Path]:
    return sorted(path for path in (phantoms / "Testing").rglob("*.*"))[:4]


def test_importing_loads_nothing() -> None:
    code = "import sys, btc_ray; dir(btc_ray); sys.exit(len([n for n in sys.modules if n in ('numpy', 'pyarrow', 'torch', 'ray', 'cv2')]))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paths_bytes_and_arrays_are_answered_as_the_command_answers_files(
    model: Path, images: list[Path], tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number, path in enumerate(images):
        cv2.imwrite(str(archive / f"{number}.png"), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    files = sorted(archive.iterdir())
    score(model, [archive], tmp_path / "run", "--batch-size", "8")
    expected = rows(tmp_path / "run")
    loaded = btc_ray.load(model)
    given = [
        [str(file) for file in files],
        files,
        [file.read_bytes() for file in files],
        [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files],
    ]
    for several in given:
        table = loaded.predict(several)
        assert table.schema == scores_schema(loaded.bundle)
        found = table.to_pandas()
        assert found["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-5)
        assert found["crop_w"].tolist() == expected["crop_w"].tolist()
    assert loaded.predict(files)["uri"].to_pylist() == [str(file) for file in files]
    assert loaded.predict(given[3])["uri"].to_pylist() == [f"array:{number}" for number in range(len(files))]
    assert loaded.predict(files[0]).num_rows == 1
    assert loaded.predict([]).schema == scores_schema(loaded.bundle)


def test_slices_of_dicom_are_answered_by_path_and_by_bytes_as_a_run_answers_them(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, data in enumerate(slices(3)):
        (tmp_path / "in" / f"IM{number}").write_bytes(data)
    btc_ray.score(model, [tmp_path / "in"], tmp_path / "run", privacy="off")
    expected = rows(tmp_path / "run")
    loaded = btc_ray.load(model)
    files = sorted((tmp_path / "in").iterdir())
    for given in (files, [file.read_bytes() for file in files]):
        found = loaded.predict(given).to_pandas()
        assert found["status"].tolist() == ["ok"] * 3
        assert found["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-5)
    assert len(expected["series_key"].unique()) == 1


def test_a_file_of_several_slices_is_not_answered_by_its_first(model: Path) -> None:
    (row,) = btc_ray.load(model).predict(nifti(head())).to_pylist()
    assert (row["status"], row["label"]) == ("unsupported", None)
    assert "it holds 10 slices or frames" in row["error"]


def test_what_cannot_be_read_is_a_row(model: Path, images: list[Path], tmp_path: Path) -> None:
    table = btc_ray.load(model).predict([tmp_path / "none.jpg", b"text", images[0], b""])
    assert table["status"].to_pylist() == ["failed", "unreadable", "ok", "unreadable"]
    assert "no such file" in table["error"][0].as_py()


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.zeros((64, 64), np.float32), TypeError, "float32"),
        (np.zeros((64, 64), np.uint16), TypeError, "uint16"),
        (np.zeros((64, 64), bool), TypeError, "bool"),
        (np.zeros((4, 64, 64), np.uint8), ValueError, r"\(4, 64, 64\)"),
        (np.zeros((64, 64, 3), np.uint8), ValueError, r"\(64, 64, 3\)"),
        (np.zeros((0, 64), np.uint8), ValueError, r"\(0, 64\)"),
        (17, TypeError, "int"),
        (None, TypeError, "NoneType"),
    ],
)
def test_a_wrong_array_raises(model: Path, image: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        btc_ray.load(model).predict([image])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("crops", "error"),
    [
        (np.zeros((1, 64, 64), np.float32), TypeError),
        (np.zeros((1, 63, 64), np.uint8), ValueError),
        (np.zeros((64, 64), np.uint8), ValueError),
        (np.zeros((1, 1, 64, 64), np.uint8), ValueError),
        (np.zeros((0, 32, 32), np.uint8), ValueError),
    ],
)
@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_an_engine_answers_crops_of_its_size_alone(model: Path, name: str, crops: np.ndarray, error: type[Exception]) -> None:
    from btc_ray.model.engines.choose import choose

    if name == "openvino":
        pytest.importorskip("openvino", reason="needs pip install 'btc-ray[cpu]'")
    engine = open_engine(Place(str(model)), choose(engine=name))  # type: ignore[arg-type]
    with pytest.raises(error):
        engine.probabilities(crops)


def test_a_run_has_its_scores_and_its_summary(model: Path, phantoms: Path, tmp_path: Path) -> None:
    run = btc_ray.score(model, phantoms / "Testing", tmp_path / "run")
    assert run.state.complete
    assert run.state.counts is not None
    assert run.scores().num_rows == run.state.counts.rows == 20
    assert run.scores(["label"]).column_names == ["label"]
    assert run.scores()["row_id"].to_pylist() == list(range(20))
    assert Path(run.summary).read_text().startswith("<!DOCTYPE html>")
    assert btc_ray.open_run(tmp_path / "run").scores().equals(run.scores())
    assert isinstance(run.dataset().head(1), pa.Table)
    with pytest.raises(RefusedError, match="other inputs"):
        btc_ray.score(model, phantoms / "Training", tmp_path / "run")
    with pytest.raises(UserError, match="max-bad-fraction"):
        btc_ray.score(model, phantoms, tmp_path / "other", max_bad_fraction=2.0)


def test_a_crop_is_what_the_model_sees(images: list[Path]) -> None:
    found = btc_ray.crop(images[0], size=96)
    assert found.pixels is not None
    assert found.pixels.shape == (96, 96)
    assert found.box is not None
    assert btc_ray.crop(b"").status == "unreadable"


def test_there_is_no_other_door() -> None:
    assert set(btc_ray.__all__) <= set(dir(btc_ray))
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        btc_ray.train  # noqa: B018


def test_the_examples_of_the_documentation_run(
    model: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(images[0], "slice.jpg")
    Path("archive").mkdir()
    shutil.copy(images[1], "archive")
    shutil.copytree(model, "MODEL")
    examples = re.findall(r"```python\n(.*?)```", PYTHON.read_text(), re.DOTALL)
    assert len(examples) == 4
    exec("\n".join(examples), {})
