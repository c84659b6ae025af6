"""`btc-ray review --sample`, a reader's answers, and `btc-ray evaluate --run`: one way, in this process."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.dataset.answers import NOT_A_HEAD, UNSURE
from btc_ray.scoring.state import read_state
from btc_ray.settings import Evaluate, SettingsError
from btc_ray.storage import Place
from tests.dataset.test_answers import write
from tests.scoring.runs import score

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture(scope="module")
def run(model: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 images, reviewed: a worklist of 4, and 12 drawn."""
    folder = tmp_path_factory.mktemp("answered") / "run"
    assert score(model, [phantoms / "Testing"], folder) == 0
    assert main(["review", "--run", str(folder), "--rows", "4", "--sample", "12", "--seed", "3"]) == 0
    return folder


def reviewed(run: Path) -> list[dict[str, object]]:
    return pq.read_table(run / "worklist.parquet").to_pylist()


def truth(row: dict[str, object]) -> str:
    """The class folder that a phantom stands in."""
    return str(row["uri"]).split("/")[-2]


def said(row: dict[str, object], answer: str, run: Path, *, reader: str = "RB") -> dict[str, object]:
    names = ("row_id", "uri", "content_sha256", "label")
    return {name: row[name] for name in names} | {"answer": answer, "reader": reader, "run": run_id(run)}


def run_id(run: Path) -> str:
    return read_state(Place(str(run))).run_id


def evaluate(run: Path, answers: Place, *flags: str) -> int:
    return main(["evaluate", "--run", str(run), "--answers", answers.uri, *flags])


def test_answers_about_all_that_is_shown_give_both_estimates(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviewed(run)
    answers = write(tmp_path / "answers.csv", *(said(row, truth(row), run) for row in rows))
    assert evaluate(run, answers) == 0
    record = json.loads((run / "answers.json").read_text())
    drawn = [row for row in rows if row["drawn"] is not None]
    right = sum(row["label"] == truth(row) for row in drawn)
    assert record["drawn"] == {"rows": 12, "of": 20, "seed": 3, "method": record["drawn"]["method"]}
    assert (record["sample"]["images"], record["sample"]["right"]) == (12, right)
    listed = [row for row in rows if row["place"] is not None]
    others = [row for row in drawn if row["place"] is None]
    share = sum(row["label"] == truth(row) for row in others) / len(others)
    expected = (sum(row["label"] == truth(row) for row in listed) + 16 * share) / 20
    assert (record["weighted"]["certain"], record["weighted"]["sampled"]) == (4, len(others))
    assert record["weighted"]["accuracy"]["value"] == pytest.approx(expected)
    assert record["remarks"] == []
    assert record["run_id"] == run_id(run)
    out = capsys.readouterr().out
    assert "estimate for all 20 scored images from 12 answers" in out
    assert str(run / "answers.json") in out


def test_the_first_of_the_sample_are_a_sample_and_one_with_holes_is_told(run: Path, tmp_path: Path) -> None:
    drawn = sorted((row for row in reviewed(run) if row["drawn"] is not None), key=lambda row: row["drawn"])  # type: ignore[arg-type, return-value]
    for name, chosen, remark in (
        ("first", drawn[:5], "The first 5 of the 12 drawn images have an answer"),
        ("holes", drawn[::2], "6 of the 12 drawn images have no answer, and not the last ones"),
    ):
        answers = write(tmp_path / f"{name}.csv", *(said(row, truth(row), run) for row in chosen))
        assert evaluate(run, answers, "--output", str(tmp_path / name)) == 0
        record = json.loads((tmp_path / name / "answers.json").read_text())
        assert record["sample"]["images"] == len(chosen)
        assert record["weighted"] is None
        assert record["remarks"][0].startswith(remark)


def test_answers_about_the_worklist_alone_are_no_estimate(run: Path, tmp_path: Path) -> None:
    rows = [row for row in reviewed(run) if row["drawn"] is None]
    assert rows
    answers = write(tmp_path / "answers.csv", *(said(row, truth(row), run) for row in rows))
    assert evaluate(run, answers, "--output", str(tmp_path)) == 0
    record = json.loads((tmp_path / "answers.json").read_text())
    assert record["sample"]["accuracy"]["value"] is None
    assert record["remarks"] == ["None of the 12 drawn images has an answer, so nothing unbiased can be said of the archive."]


def test_what_does_not_count_is_counted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, fourth, fifth, *_ = sorted(
        (row for row in reviewed(run) if row["drawn"] is not None),
        key=lambda row: row["drawn"],  # type: ignore[arg-type, return-value]
    )
    answers = write(
        tmp_path / "answers.csv",
        said(first, NOT_A_HEAD, run),
        said(second, UNSURE, run),
        said(third, truth(third), run),
        said(fourth, "glioma", run),
        said(fourth, "notumor", run, reader="second"),
        said(fifth, "glioma", run) | {"run": "another"},
        said(fifth, "glioma", run) | {"content_sha256": "0" * 64},
    )
    assert evaluate(run, answers, "--output", str(tmp_path)) == 0
    record = json.loads((tmp_path / "answers.json").read_text())
    assert record["answers"] == {truth(third): 1, NOT_A_HEAD: 1, UNSURE: 1}
    assert sorted(record["left_out"].values()) == [1, 1, 1]
    assert record["sample"]["not_a_head"]["value"] == pytest.approx(1 / 3)
    assert "second says notumor" in capsys.readouterr().err


def test_what_does_not_fit_together_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = write(tmp_path / "answers.csv", said(reviewed(run)[0], "metastasis", run))
    for arguments, words in (
        (["--run", str(tmp_path)], "is not a run folder"),
        (["--run", str(run), "--review", str(tmp_path)], "has no review"),
        (["--run", str(run)], "metastasis, which is no class of the model"),
    ):
        assert main(["evaluate", *arguments, "--answers", answers.uri]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"run": "RUN"}, "--run needs --answers"),
        ({"run": "RUN", "answers": ("a.csv",), "data": "DATA"}, "in place of --model and --data"),
        ({"model": ("MODEL",)}, "--data and --output must be given with --model"),
        ({"model": ("MODEL",), "data": "DATA", "output": "OUT", "answers": ("a.csv",)}, "name it with --run"),
        ({}, "--model is empty"),
    ],
)
def test_flags_that_do_not_go_together_are_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Evaluate(**given)


def test_without_a_sample_nothing_is_estimated(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "--run", str(run), "--rows", "4", "--output", str(tmp_path / "review")]) == 0
    rows = reviewed(tmp_path / "review")
    answers = write(tmp_path / "answers.csv", *(said(row, truth(row), run) for row in rows))
    assert evaluate(run, answers, "--review", str(tmp_path / "review"), "--output", str(tmp_path)) == 0
    record = json.loads((tmp_path / "answers.json").read_text())
    assert record["sample"] is record["weighted"] is None
    assert record["read"]["images"] == 4
    assert "no random sample, so nothing unbiased can be said" in capsys.readouterr().out
