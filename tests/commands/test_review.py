"""`btc-ray review` of a run: a page, a table and numbers, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from tests.commands.bundles import deciding_bundle
from tests.scoring.runs import rows, score


@pytest.fixture(scope="module")
def deciding(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of random weights with thresholds: half of the phantoms are near enough, by their features' length."""
    return deciding_bundle(
        model,
        tmp_path_factory.mktemp("deciding") / "model",
        accept_distance=15.0,
        reject_distance=1000.0,
        confidence=[2] * 20,
        distance_deciles=[float(number) for number in range(1, 10)],
    )


@pytest.fixture(scope="module")
def run(deciding: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviewed") / "run"
    broken = folder.parent / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no more")
    assert score(deciding, [phantoms, broken], folder) == 0
    return folder


def test_a_review_shows_every_scored_image_and_why_others_were_not(run: Path) -> None:
    assert main(["review", "--run", str(run)]) == 0
    record, table, page = (
        json.loads((run / "review.json").read_text()),
        pq.read_table(run / "worklist.parquet"),
        (run / "review.html"),
    )
    assert record["images"] == 61
    assert record["scored"] == len(table) == 60
    assert [cause["status"] for cause in record["causes"]] == ["unreadable"]
    assert record["drift"]["distance"]["verdict"] == "large"  # the thresholds are made up
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 60
    assert "data:image/png;base64," in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_decisions_follow_the_thresholds_of_the_bundle(run: Path) -> None:
    table = rows(run)
    ok = table[table["status"] == "ok"]
    expected = np.where((ok["feature_distance"] <= 15) & (ok["confidence"] >= 0.5), "accept", "review")
    assert ok["decision"].tolist() == expected.tolist()
    assert (ok["surround"] < 0.2).all()  # heads stand in air
    assert table[table["status"] != "ok"][["feature_distance", "energy", "decision", "surround"]].isna().all(axis=None)


def test_few_rows_are_the_most_urgent_ones_and_stand_elsewhere(run: Path, tmp_path: Path) -> None:
    assert main(["review", "--run", str(run), "--rows", "5", "--output", str(tmp_path / "review")]) == 0
    table = pq.read_table(tmp_path / "review" / "worklist.parquet")
    assert len(table) == 5
    assert "5 of 60 scored images" in (tmp_path / "review" / "review.html").read_text()


def test_an_image_that_is_gone_costs_its_picture_and_not_the_page(deciding: Path, phantoms: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantoms / "Testing", tmp_path / "data"))
    assert score(deciding, [data], tmp_path / "run") == 0
    first, second, third = sorted((data / "glioma").iterdir())[:3]
    first.unlink()
    second.write_bytes(third.read_bytes())
    assert main(["review", "--run", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "review.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 18
    assert page.count("the file has changed since it was scored") == 1


def test_a_model_without_thresholds_decides_nothing_and_is_reviewed_all_the_same(
    model: Path, phantoms: Path, tmp_path: Path
) -> None:
    assert score(model, [phantoms / "Testing"], tmp_path / "run") == 0
    assert rows(tmp_path / "run")["decision"].isna().all()
    assert rows(tmp_path / "run")["energy"].notna().all()
    assert main(["review", "--run", str(tmp_path / "run")]) == 0
    assert "has no thresholds" in (tmp_path / "run" / "review.html").read_text()


def test_a_run_is_not_continued_with_other_thresholds(deciding: Path, phantoms: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(deciding, tmp_path / "model"))
    assert score(changed, [phantoms / "Testing"], tmp_path / "run") == 0
    content = json.loads((changed / "bundle.json").read_text())
    content["decision"]["accept_confidence"] = 0.99
    (changed / "bundle.json").write_text(json.dumps(content))
    assert score(changed, [phantoms / "Testing"], tmp_path / "run") == 4


def test_rows_of_a_version_without_decisions_are_kept(model: Path, phantoms: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantoms / "Testing", tmp_path / "data"))
    broken = next((data / "glioma").iterdir())
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    assert score(model, [data], tmp_path / "run") == 0
    for path in (tmp_path / "run" / "scores").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["feature_distance", "energy", "decision", "surround"]), path)
    broken.write_bytes(whole)
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    del state["fingerprint"]["decision"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(state))
    assert score(model, [data], tmp_path / "run", "--retry-failed") == 0
    found = pq.read_table(tmp_path / "run" / "scores")
    assert len(found) == 20
    assert found.schema.field("decision").type == pa.string()


def test_what_is_no_complete_run_of_this_model_is_refused(
    run: Path, other_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "--run", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["review", "--run", str(run), "--model", str(other_model)]) == 2
    assert "was made by model" in capsys.readouterr().err
    unfinished = Path(shutil.copytree(run, tmp_path / "run"))
    state = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(state | {"complete": False}))
    assert main(["review", "--run", str(unfinished)]) == 2
    assert "is not complete" in capsys.readouterr().err
