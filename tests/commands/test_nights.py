"""`btc-ray info --runs`, and the recipes of docs/nightly.md: many runs, the newest row of every image."""

import json
from pathlib import Path
from shutil import which
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from tests.scores import row, write_run
from tests.test_readme import answers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nightly.md"
NEWEST = [("/a/1.png", "1", "glioma"), ("/a/2.png", "2", "notumor"), ("/a/3.png", "3", None), ("/a/4.png", "2", "glioma")]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three nights and one that is not complete: 2 changes its label, 3 cannot be read any more, 4 is new, 1 is gone in the end."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    write_run(str(folder / "1"), [row("/a/1.png", "glioma"), row("/a/2.png", "glioma"), row("/a/3.png")])
    write_run(str(folder / "2"), [row("/a/2.png"), row("/a/4.png", "glioma")])
    write_run(str(folder / "3"), [row("/a/3.png", None)])
    write_run(str(folder / "4"), [row("/a/9.png")], complete=False)
    pq.write_table(pa.table({"uri": ["/a/2.png", "/a/4.png"], "run": ["runs/2"] * 2}), folder / "3" / "known.parquet")
    return folder


def test_each_night_says_what_it_added_and_what_changed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--runs", f"{runs}/*", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    names = ("rows", "new", "again", "label_changed", "status_changed", "newest")
    assert [tuple(night[name] for name in names) for night in found["nights"]] == [
        (3, 3, 0, 0, 0, 1),
        (2, 1, 1, 1, 0, 2),
        (1, 0, 1, 0, 1, 1),
    ]
    assert (found["images"], found["status"], found["label"]) == (4, {"ok": 3, "unreadable": 1}, {"glioma": 2, "notumor": 1})
    assert found["gone"] == 1
    assert "1 of the runs is left out: not complete" in err


def test_the_text_has_a_line_for_each_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--runs", f"{runs}/1", f"{runs}/2"]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{runs}/2 2 1 1 1 0 2 0" in said
    assert "images 4" in said


def test_no_complete_run_is_an_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--runs", f"{runs}/4"]) == 2
    assert "--runs names no complete run" in capsys.readouterr().err


SPARK = pytest.param("pyspark", marks=[pytest.mark.slow, pytest.mark.skipif(which("java") is None, reason="needs Java")])


@pytest.mark.parametrize("package", ["duckdb", "pandas", "polars", SPARK])
def test_the_recipes_of_the_page_give_the_newest_rows(runs: Path, package: str) -> None:
    pytest.importorskip(package, reason=f"needs {package}")
    tables = [_rows(answer) for answer in answers(PAGE.read_text(), package)][-3:]  # views answer nothing
    assert tables[0] == NEWEST
    if package not in ("polars", "pyspark"):
        assert tables[1:] == [[("/a/2.png", "glioma", "notumor", "2")], [("/a/1.png",)]]


def _rows(answer: Any) -> list[tuple[Any, ...]]:
    if "duckdb" in type(answer).__module__:
        return answer.fetchall()
    if "polars" in type(answer).__module__:
        return answer.rows()
    if isinstance(answer, list):  # Spark's rows
        return [tuple(line) for line in answer]
    return [tuple(None if value != value else value for value in line) for line in answer.astype(object).to_numpy().tolist()]
