"""`btc-ray retrain --folds`: every patient is answered once by a model that never saw them, and what is done is not done again."""

import contextlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from btc_ray.model.bundle import read_bundle
from btc_ray.storage import Place
from tests.integration.trainings import HEAD, copy_cache, retrain

pytestmark = pytest.mark.ray
FOLDS = 3


@pytest.fixture(scope="module")
def patients(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms of a class are one patient, each an examination; the last class has none."""
    files = sorted(
        path.relative_to(phantoms) for path in phantoms.rglob("*") if path.is_file() and path.parent.name != "pituitary"
    )
    rows = [
        {"path": str(path), "patient": f"{path.parent.name}-{number % 15 // 2}", "examination": number}
        for number, path in enumerate(sorted(files, key=lambda path: (path.parent.name, path)))
    ]
    table = tmp_path_factory.mktemp("patients") / "patients.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


@pytest.fixture(scope="module")
def folded(phantoms: Path, backbone: Path, patients: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "model"
    assert retrain(phantoms, folder, *HEAD, "--folds", str(FOLDS), "--groups", str(patients), weights=backbone) == 0
    return folder


def test_every_image_is_answered_once_and_no_patient_in_two_folds(folded: Path) -> None:
    answers = pq.read_table(folded / "out_of_fold.parquet").to_pandas()
    assert len(answers) == answers["uri"].nunique() == 60
    assert set(answers["fold"]) == set(range(FOLDS))
    assert (answers.groupby("patient")["fold"].nunique() == 1).all()
    assert answers["patient"].notna().sum() == answers["examination"].notna().sum() == 45
    assert answers.filter(like="prob_").sum(axis=1).to_numpy() == pytest.approx(1)
    assert (
        answers.filter(like="prob_").to_numpy().argmax(1).tolist() == answers.filter(like="logit_").to_numpy().argmax(1).tolist()
    )
    assert answers[["feature_distance", "surround"]].notna().all(axis=None)


def test_the_bundle_learned_from_all_and_says_that_its_figures_are_out_of_fold(folded: Path) -> None:
    bundle = read_bundle(Place(str(folded)))
    answers, split = (pq.read_table(folded / f"{name}.parquet").to_pandas() for name in ("out_of_fold", "split"))
    assert set(split["split"]) == {"train", "validation"}
    assert split["fold"].tolist() == answers["fold"].tolist()
    said = answers.filter(like="prob_").to_numpy().argmax(1)
    right = [bundle.classes[number] == label for number, label in zip(said, answers["label"], strict=True)]
    assert bundle.metrics["out_of_fold"]["accuracy"] == pytest.approx(sum(right) / 60)
    assert "test" not in bundle.metrics
    assert bundle.data["folds"] == FOLDS
    assert bundle.decision["guarantee"]["answers"] == "out-of-fold"
    assert "are those of 3 models of the same recipe" in (folded / "model_card.md").read_text()
    record = json.loads((folded / "folds.json").read_text())
    slices, examinations = record["models"][0]["sets"]
    assert slices["metrics"]["accuracy"]["value"] == pytest.approx(sum(right) / 60)
    assert examinations["metrics"]["images"] == 45
    assert "Fold by fold" in (folded / "folds.html").read_text()


def test_a_fold_that_is_done_is_not_trained_again(
    folded: Path, phantoms: Path, backbone: Path, patients: Path, tmp_path: Path, ray_here: None
) -> None:
    cache = copy_cache(folded, tmp_path / "cache")
    kept = sorted((cache / "folds").iterdir())
    assert len(kept) == FOLDS
    kept[0].unlink()  # as if the job had been killed before it was done
    flags = (*HEAD, "--folds", str(FOLDS), "--groups", str(patients), "--cache", str(cache))
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert retrain(phantoms, tmp_path / "again", *flags, weights=backbone) == 0
    assert said.getvalue().count("is done, and kept in") == FOLDS - 1
    first, second = (pq.read_table(folder / "out_of_fold.parquet") for folder in (folded, tmp_path / "again"))
    assert first.equals(second)
