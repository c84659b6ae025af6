"""The columns of a model's probabilities can be written by every engine that reads Parquet, whatever the classes are called."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray import api
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import read_bundle, write_bundle
from btc_ray.model.bundle.columns import column_names
from btc_ray.model.weights import initial_network
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.storage import Place
from tests.conftest import CLASSES

ODD = ("Métastase", "glioma (grade II, III)", "no tumor", "腫瘍")


def odd_bundle(folder: Path) -> Place:
    place = Place(str(folder))
    state = initial_network("none", len(ODD), seed=0).state_dict()
    write_bundle(place, state=state, classes=ODD, preprocess=Preprocess(size=64), training={}, data={}, metrics={})
    return place


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        (CLASSES, tuple(f"prob_{name}" for name in CLASSES)),
        (("no tumor", "glioma_tumor"), ("prob_no_tumor", "prob_glioma_tumor")),
        (("Métastase",), ("prob_Metastase",)),
        (("glioma (grade II, III)",), ("prob_glioma_grade_II_III",)),
        (("1.1", "1.10"), ("prob_1_1", "prob_1_10")),
        (("IDH", "IDH+"), ("prob_IDH", "prob_IDH_1")),
        (("a", "A"), ("prob_a", "prob_A_1")),
        (("腫瘍", "正常"), ("prob_class_0", "prob_class_1")),
    ],
)
def test_a_column_has_letters_digits_and_underscores_and_is_there_once(
    classes: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    assert column_names(classes) == columns


def test_a_run_of_a_model_with_odd_names_has_plain_columns_and_the_true_names_beside_them(tmp_path: Path) -> None:
    place = odd_bundle(tmp_path / "model")
    write_phantoms(tmp_path / "in", per_class=1, seed=1, splits=("night",), size=(128, 128))
    run = api.score(place.uri, tmp_path / "in", tmp_path / "run")
    scores = run.scores()
    schema = pq.read_schema(next((tmp_path / "run" / "scores").glob("*.parquet")))
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in schema.names)
    assert tuple(json.loads(schema.metadata[b"classes_json"])) == ODD
    assert set(scores["label"].to_pylist()) <= set(ODD)
    columns = read_bundle(place).probability_columns
    for row in scores.to_pylist():
        assert row["confidence"] == max(row[name] for name in columns) == row[columns[ODD.index(row["label"])]]


def test_a_bundle_of_before_goes_on_with_the_columns_it_had(tmp_path: Path) -> None:
    place = odd_bundle(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "bundle.json").read_text())
    del content["columns"]
    (tmp_path / "model" / "bundle.json").write_text(json.dumps(content))
    assert read_bundle(place).probability_columns == tuple(f"prob_{name}" for name in ODD)
