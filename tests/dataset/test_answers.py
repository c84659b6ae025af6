"""Readers' answers: what a table of them may hold, who is believed, and what a spreadsheet makes of it."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from btc_ray.dataset.answers import (
    COLUMNS,
    NOT_A_HEAD,
    UNSURE,
    Answer,
    AnswersError,
    counted,
    meant,
    read_answers,
    say_contradictions,
    settle,
)
from btc_ray.storage import Place


def harmless(cell: str) -> str:
    """A cell as the page writes it: one that a spreadsheet would take for a formula has an apostrophe before it."""
    return f"'{cell}" if cell.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def write(file: Path, *rows: Mapping[str, object]) -> Place:
    """A table of answers as the page saves it."""
    with file.open("w", newline="") as text:
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows({name: harmless(str(value)) for name, value in row.items()} for row in rows)
    return Place(str(file))


def one(
    answer: str,
    *,
    content: str = "aa",
    reader: str = "RB",
    time: str = "2026-11-26T20:00:00.000Z",
    row_id: int = 0,
    uri: str = "/a.png",
) -> Answer:
    return Answer(
        row_id=row_id, uri=uri, content_sha256=content, label="glioma", answer=answer, reader=reader, time=time, run="r"
    )  # fmt: skip


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "'=1", "''-"])
def test_what_looks_like_a_formula_is_made_harmless_and_comes_back(cell: str) -> None:
    assert harmless(cell)[0] == "'"
    assert meant(harmless(cell)) == cell


@pytest.mark.parametrize("cell", ["", "glioma", "'twas", "/a/b=c.png", "1-2", "s3://x/+y.png"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert harmless(cell) == cell == meant(cell)


def test_of_a_reader_the_latest_answer_counts_whatever_the_order_of_the_lines() -> None:
    early, late = one("glioma", time="2026-11-26T20:00:00Z"), one("notumor", time="2026-11-26T21:00:00Z")
    for answers in ([early, late], [late, early]):
        settled = settle(answers)
        assert [answer.answer for answer in settled.answers] == ["notumor"]
        assert not settled.contradictions


def test_readers_who_contradict_each_other_are_counted_and_listed_and_not_believed(capsys: pytest.CaptureFixture[str]) -> None:
    settled = settle([one("glioma"), one("notumor", reader="second"), one("pituitary", content="bb", row_id=1, uri="/b.png")])
    assert [answer.content_sha256 for answer in settled.answers] == ["bb"]
    say_contradictions(settled)
    said = capsys.readouterr().err
    assert "left out: 1 images of which readers contradict each other" in said
    assert "/a.png: RB says glioma, second says notumor" in said


def test_who_is_unsure_contradicts_nobody() -> None:
    settled = settle(
        [one(UNSURE), one("glioma", reader="second"), one(UNSURE, content="bb"), one(UNSURE, content="bb", reader="2")]
    )
    assert [answer.answer for answer in settled.answers] == ["glioma", UNSURE]
    assert not settled.contradictions


def test_copies_of_an_image_are_one_image_and_slices_of_a_file_are_not() -> None:
    copies = [one("glioma"), one("notumor", row_id=7, uri="/copy of a.png")]
    assert len(settle(copies).contradictions) == 1
    for first, second in (("/a.nii.gz#slice=1", "/a.nii.gz#slice=2"), ("nifti:0123#1", "nifti:0123#2")):
        slices = [one("glioma", uri=first), one("notumor", row_id=7, uri=second)]
        assert len(settle(slices).answers) == 2


def test_answers_are_counted_by_class_and_then_those_without_one() -> None:
    assert counted([one("pituitary"), one(UNSURE), one("glioma"), one(NOT_A_HEAD), one(UNSURE)]) == {
        "glioma": 1, "pituitary": 1, NOT_A_HEAD: 1, UNSURE: 2,
    }  # fmt: skip
    assert list(counted([one(UNSURE), one("pituitary"), one("glioma")])) == ["glioma", "pituitary", UNSURE]


def test_a_spreadsheet_may_have_saved_the_file_again(tmp_path: Path) -> None:
    text = "\ufeffRow_ID;uri;content_sha256;label;answer;reader;time\r\n3;/ä.png;AA;glioma;not a head;RB;\r\n"
    (tmp_path / "answers.csv").write_bytes(text.encode())
    (answer,) = read_answers([Place(str(tmp_path / "answers.csv"))])
    assert (answer.row_id, answer.uri, answer.content_sha256, answer.answer, answer.run) == (3, "/ä.png", "aa", NOT_A_HEAD, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uri,answer\n/a.png,glioma\n", "has no column 'content_sha256'"),
        ("content_sha256,answer\naa,\n", "line 2 has no answer"),
        ("content_sha256,answer\n,glioma\n", "line 2 has no content_sha256"),
        ("content_sha256,answer,row_id\naa,glioma,first\n", "row_id 'first' is no number"),
        ("content_sha256,answer\n", "there is no answer in it"),
    ],
)
def test_a_table_that_is_none_of_answers_says_what_it_lacks(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(AnswersError, match=said):
        read_answers([Place(str(tmp_path / "answers.csv"))])


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AnswersError, match=r"no\.csv does not exist"):
        read_answers([Place(str(tmp_path / "no.csv"))])
