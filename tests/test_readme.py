"""What the documents say of reading results, and the README of Python, is run as it stands there."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btc_ray.settings import Info
from btc_ray.settings.parse import parse
from tests.scores import row, write_run

ROOT = Path(__file__).resolve().parents[1]
README, READING = ROOT / "README.md", ROOT / "docs" / "reading-results.md"


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The document; the runs that it names are in the working folder."""
    monkeypatch.chdir(tmp_path)
    bad = [row(f"/in/b/{place}.png", None, error=f"cut short at byte {place}17") for place in (3, 4)]
    first = [row("/in/a/1.png", "glioma"), row("/in/a/2.png"), *bad, row("/in/b.zip::5.png", "glioma")]
    second = [row("/in/a/1.png"), row("/in/a/2.png"), row("/in/b/3.png"), bad[1], row("/in/b.zip::5.png", "glioma")]
    write_run(str(tmp_path / "RUN"), first[:3], first[3:])
    write_run(str(tmp_path / "RUN1"), first)
    write_run(str(tmp_path / "RUN2"), second)
    return READING.read_text()


def answers(section: str, package: str) -> Iterator[Any]:
    """What the section's Python that imports `package` shows at a prompt."""
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if f"import {package}" in block)
    names: dict[str, Any] = {}
    shown: list[Any] = []
    displayhook, sys.displayhook = sys.displayhook, shown.append
    try:
        for statement in ast.parse(block).body:
            exec(compile(ast.Interactive([statement]), str(READING), "single"), names)
            yield from (answer for answer in shown if answer is not None)
            shown.clear()
    finally:
        sys.displayhook = displayhook


def test_the_examples_in_sql_answer_what_they_promise(section: str) -> None:
    pytest.importorskip("duckdb", reason="needs DuckDB: pip install duckdb")
    folders, causes, changes = (answer.fetchall() for answer in answers(section, "duckdb"))
    assert sorted(folders) == [("/in/a", 2, 1), ("/in/b.zip", 1, 1)]
    assert causes == [("unreadable", "cut short at byte #", 2)]
    assert changes == [("glioma", "notumor", 1)]


def test_the_examples_in_pandas_answer_the_same(section: str) -> None:
    folders, causes, changes = answers(section, "pandas")
    assert folders.reset_index().to_numpy().tolist() == [["/in/a", 2, 1], ["/in/b.zip", 1, 1]]
    assert causes.to_dict() == {("unreadable", "cut short at byte #"): 2}
    assert changes.loc["glioma"].to_dict() == {"glioma": 1, "notumor": 1}


def test_the_command_that_compares_is_one(section: str) -> None:
    (words,) = re.findall(r"^btc-ray info (--compare .*)$", section, re.MULTILINE)
    assert parse(Info, words.split(), program="btc-ray info").compare == ("RUN1", "RUN2")


def test_the_lines_of_the_readme_score_a_folder(
    model: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "MODEL")
    shutil.copytree(phantoms / "Testing" / "glioma", "archive")
    shutil.copy(next(Path("archive").iterdir()), "slice.jpg")
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(block.replace('"/archive"', '"archive"'), {})
    assert "status={'ok': 5}" in capsys.readouterr().out


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in (
        README,
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
    ):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
