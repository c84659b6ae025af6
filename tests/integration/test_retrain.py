"""From labelled images to a bundle that scores as well as it says, on a real Ray."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.model.bundle import read_bundle
from tests.scoring.runs import rows, score

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def bundle(phantoms: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    folder = tmp_path_factory.mktemp("retrain") / "model"
    assert retrain(phantoms, folder) == 0
    return folder


def retrain(data: Path, output: Path, *flags: str) -> int:
    sizes = ["--size", "64", "--epochs", "4", "--learning-rate", "0.01"]
    return main(["retrain", "--data", str(data), "--weights", "none", "--output", str(output), *sizes, *flags])


def test_a_bundle_has_everything_the_contract_names(bundle: Path) -> None:
    for name in ("model.safetensors", "bundle.json", "model_card.md", "metrics.parquet"):
        assert (bundle / name).stat().st_size > 0
    assert {path.name for path in (bundle / "figures").iterdir()} == {"learning_curve.png", "confusion_test.png"}
    content = json.loads((bundle / "bundle.json").read_text())
    assert content["classes"] == ["glioma", "meningioma", "notumor", "pituitary"]
    assert sum(content["data"]["test"].values()) == 20
    assert sum(content["data"]["train"].values()) + sum(content["data"]["validation"].values()) == 40
    history = pq.read_table(bundle / "metrics.parquet").to_pylist()
    assert [(row["epoch"], row["split"]) for row in history] == [
        (epoch, split) for epoch in range(1, 5) for split in ("train", "validation", "test")
    ]


def test_scoring_the_test_images_gives_the_accuracy_that_training_reported(bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    assert score(bundle, [phantoms / "Testing"], tmp_path / "run") == 0
    table = rows(tmp_path / "run")
    accuracy = (table["label"] == table["uri"].str.split("/").str[-2]).mean()
    assert accuracy == pytest.approx(read_bundle(str(bundle)).metrics["test"]["accuracy"], abs=0.005)


def test_the_same_seed_gives_the_same_model_from_the_cache(
    bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str], ray_here: None
) -> None:
    again = bundle.parent / "again"
    assert retrain(phantoms, again) == 0
    said = capsys.readouterr().err
    assert "Crops are cached" in said
    assert "Features are cached" in said
    assert read_bundle(str(again)).model_id == read_bundle(str(bundle)).model_id
    other = bundle.parent / "other"
    assert retrain(phantoms, other, "--seed", "1") == 0
    assert read_bundle(str(other)).model_id != read_bundle(str(bundle)).model_id


def test_a_changed_image_is_noticed_and_a_broken_one_left_out_by_name(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_here: None
) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    broken = next((data / "Training" / "glioma").iterdir())
    broken.write_bytes(b"")
    assert retrain(data, tmp_path / "model") == 0
    assert f"left out: {broken}" in capsys.readouterr().err
    assert read_bundle(str(tmp_path / "model")).data["left_out"] == {"unreadable": 1}


def test_data_without_classes_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert retrain(tmp_path / "empty", tmp_path / "model") == 2
    assert "empty" in capsys.readouterr().err


def test_crops_of_an_archive_are_a_table_and_a_sheet_of_the_doubtful(phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    (tmp_path / "in").mkdir()
    shutil.copytree(phantoms / "Testing", tmp_path / "in" / "images")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    assert main(["crop", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--size", "96"]) == 0
    table = pq.read_table(tmp_path / "out" / "crops").sort_by("row_id").to_pandas()
    assert table["row_id"].tolist() == list(range(21))
    assert table["status"].value_counts().to_dict() == {"ok": 20, "unreadable": 1}
    assert table.loc[table["status"] == "ok", "pixels"].str.len().unique().tolist() == [96 * 96]
    assert table["crop_w"].dropna().between(1, 128).all()
    assert (tmp_path / "out" / "doubtful.png").stat().st_size > 1000
