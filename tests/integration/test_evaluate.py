"""`btc-ray evaluate` as a user runs it: scored as at night, measured, and what was seen in training told."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from tests.conftest import CLASSES, make_bundle
from tests.scoring.runs import rows

pytestmark = pytest.mark.ray

COPIED = 3  # training images that stand mirrored among the test images


@pytest.fixture(scope="module")
def data(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, of which some training images stand mirrored and recoded among the test images, and one test image is broken."""
    folder = Path(shutil.copytree(phantoms, tmp_path_factory.mktemp("evaluate") / "data"))
    for source in sorted((folder / "Training" / "glioma").iterdir())[:COPIED]:
        mirrored = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)[:, ::-1]
        assert cv2.imwrite(str(folder / "Testing" / "glioma" / f"copy of {source.stem}.jpg"), mirrored)
    (folder / "Testing" / "notumor" / "broken.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def bundles(data: Path) -> dict[str, Path]:
    """A bundle trained on each split, as far as its record goes, and one without a record."""
    files = [path for path in sorted(data.rglob("*.*")) if path.stat().st_size]
    published = ["test" if path.parts[-3] == "Testing" else "train" for path in files]
    # By group: the copies' originals and the copies train.
    held = ["test" if place % 3 == 0 and "glioma" not in path.parts else "train" for place, path in enumerate(files)]
    return {
        "folders": bundle(data.parent / "folders", files, published, "folders"),
        "group": bundle(data.parent / "group", files, held, "group"),
        "older": make_bundle(data.parent / "older", seed=2),
    }


def bundle(folder: Path, files: list[Path], split: list[str], kind: str) -> Path:
    make_bundle(folder, seed=len(kind))
    record = {
        "uri": [str(path) for path in files],
        "content_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        "label": [path.parent.name for path in files],
        "split": split,
        "group": range(len(files)),
        "reason": pa.nulls(len(files), pa.string()),
    }
    pq.write_table(pa.table(record), folder / "split.parquet")
    facts = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(facts | {"data": {"split": kind}, "temperature": 2.0}))
    return folder


def evaluate(data: Path, output: Path, *models: Path) -> int:
    return main(["evaluate", "--model", *map(str, models), "--data", str(data), "--output", str(output)])


def numbers(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(model["name"], one["key"]): one for model in record["models"] for one in model["sets"]}


@pytest.fixture(scope="module")
def evaluated(data: Path, bundles: dict[str, Path], ray_here: None) -> Path:
    output = data.parent / "out"
    assert evaluate(data, output, *bundles.values()) == 0
    return output


def test_the_three_numbers_stand_beside_each_other(evaluated: Path) -> None:
    record = json.loads((evaluated / "evaluation.json").read_text())
    found = numbers(record)
    assert list(found) == [
        ("folders", "published"), ("folders", "published_without_copies"), ("group", "group"), ("older", "published"),
    ]  # fmt: skip
    published, clean = found["folders", "published"], found["folders", "published_without_copies"]
    assert (published["images"], published["with_a_copy_trained_on"], published["not_ok"]) == (20 + COPIED + 1, COPIED, 1)
    assert (clean["metrics"]["images"], clean["with_a_copy_trained_on"]) == (20, 0)
    assert found["older", "published"]["trained_on"] is None
    assert found["group", "group"]["with_a_copy_trained_on"] == 0
    page = (evaluated / "evaluation.html").read_text()
    for title in ("Published split", "Published test images without a copy in training", "Group split"):
        assert page.count(f"<h2>{title}</h2>") == 1
    assert f"{COPIED} of {20 + COPIED + 1} have a copy among the images that the model trained on" in page


def test_the_numbers_are_those_of_the_scores_that_the_run_wrote(evaluated: Path) -> None:
    record = json.loads((evaluated / "evaluation.json").read_text())
    for name, run in (("folders", "run-1"), ("older", "run-3")):
        table = rows(evaluated / run)
        ok = table[table["status"] == "ok"]
        right = ok["label"] == ok["uri"].str.split("/").str[-2]
        metrics = numbers(record)[name, "published"]["metrics"]
        assert metrics["images"] == len(ok) == 20 + COPIED
        assert metrics["accuracy"]["value"] == pytest.approx(right.mean())
        assert metrics["classes"] == list(CLASSES)
        errors = pq.read_table(evaluated / "errors.parquet").to_pandas()
        assert set(errors.loc[errors["model"] == name, "uri"]) == set(ok.loc[~right, "uri"])
    assert len(list((evaluated / "figures").iterdir())) == 4 * 3


def test_the_same_command_again_scores_nothing_and_gives_the_same_numbers(
    evaluated: Path, data: Path, bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads((evaluated / "evaluation.json").read_text())
    assert evaluate(data, evaluated, *bundles.values()) == 0
    assert capsys.readouterr().err.count("is complete already") == 3
    after = json.loads((evaluated / "evaluation.json").read_text())
    assert after["models"] == before["models"]


def test_images_of_another_hospital_are_all_counted_whatever_the_split(
    bundles: dict[str, Path], tmp_path: Path, ray_here: None
) -> None:
    from btc_ray.phantoms.phantom import write_phantoms

    write_phantoms(tmp_path / "there", per_class=3, seed=9, splits=("all",), size=(128, 128))
    shutil.rmtree(tmp_path / "there" / "all" / "pituitary")
    shutil.copytree(tmp_path / "there" / "all" / "glioma", tmp_path / "web" / "tumour")
    where = ["--data", str(tmp_path / "there" / "all"), "--external", f"web={tmp_path / 'web'}"]
    assert main(["evaluate", "--model", str(bundles["folders"]), *where, "--output", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (one,) = record["models"][0]["sets"]
    (elsewhere,) = record["models"][0]["external"]
    called = rows(tmp_path / "out" / "run-external")["label"]
    assert (elsewhere["source"], elsewhere["images"], elsewhere["labels"]) == ("web", 3, {"tumour": 3})
    assert elsewhere["tumour_sensitivity"]["value"] == pytest.approx((called != "notumor").mean())
    assert elsewhere["accepted"] is None
    assert "Other sources" in (tmp_path / "out" / "evaluation.html").read_text()
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert re.search(r"\n\| web \| 3 \| – \| [01]\.\d{3}.* \| – \| no thresholds \| no thresholds \|\n", card)
    assert "On images from elsewhere" not in (bundles["folders"] / "model_card.md").read_text()
    assert (one["key"], one["metrics"]["images"], one["metrics"]["absent_classes"]) == ("new", 9, ["pituitary"])
    assert one["metrics"]["by_class"][3]["auroc"]["reason"] == "no images of pituitary"
    assert (tmp_path / "out" / "run" / "run.json").exists()


def test_a_folder_that_holds_something_else_is_left_alone(data: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert evaluate(data, tmp_path, bundles["older"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_no_bundle_or_has_no_class_of_it_ends_with_code_2(
    data: Path, bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(data, tmp_path / "out", data) == 2
    assert "not a model bundle" in capsys.readouterr().err
    for name in ("cats", "dogs"):
        shutil.copytree(data / "Testing" / "glioma", tmp_path / "animals" / name)
    assert evaluate(tmp_path / "animals", tmp_path / "out", bundles["older"]) == 2
    assert "Name its folders so" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
