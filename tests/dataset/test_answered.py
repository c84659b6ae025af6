"""Answers are laid over labelled images by what the files hold, whatever they are called."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from btc_ray.dataset.answered import CHANGED, CONTRADICTED, PSEUDONYM, SLICES, with_answers
from btc_ray.dataset.answers import NOT_A_HEAD, UNSURE, AnswersError
from btc_ray.dataset.groups import join_groups
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.split import split_by_group
from btc_ray.dataset.table import read_labelled
from btc_ray.storage import Place
from tests.dataset.test_answers import write


def data(root: Path) -> Place:
    """Four images of each of two classes; the bytes of each are its name."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for number in range(4):
            (root / label / f"{label}{number}.png").write_bytes(f"{label}{number}".encode())
    return Place(str(root))


def row(content: str, answer: str, *, uri: str = "/archive/of the run.png", reader: str = "RB") -> dict[str, object]:
    sha = hashlib.sha256(content.encode()).hexdigest()
    return {"row_id": 0, "uri": uri, "content_sha256": sha, "label": "a", "answer": answer, "reader": reader}


def labels(table: object) -> dict[str, str]:
    return {one["uri"].rpartition("/")[2]: one["label"] for one in table.to_pylist()}  # type: ignore[attr-defined]


def test_an_answer_beats_the_label_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = data(tmp_path / "data")
    answers = write(tmp_path / "answers.csv", row("a0", "b"), row("a1", "a"))
    found = with_answers(read_labelled(place), place, [answers.uri])
    assert labels(found.table) == labels(read_labelled(place)) | {"a0.png": "b"}
    assert (found.counts["relabelled"], found.counts["confirmed"], found.counts["left_out"]) == (1, 1, {})
    assert "2 answers of 1 readers: 1 labels changed, 1 confirmed, 0 images added" in capsys.readouterr().err


def test_copies_of_the_same_bytes_all_get_the_answer(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    (tmp_path / "data" / "a" / "copy.png").write_bytes(b"b3")
    found = with_answers(read_labelled(place), place, [write(tmp_path / "answers.csv", row("b3", "b")).uri])
    assert (labels(found.table)["copy.png"], labels(found.table)["b3.png"]) == ("b", "b")


def test_no_head_unsure_and_contradicted_images_are_left_out_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = data(tmp_path / "data")
    first = write(tmp_path / "first.csv", row("a0", NOT_A_HEAD), row("a1", UNSURE), row("a2", "a"), row("elsewhere", UNSURE))
    second = write(tmp_path / "second.csv", row("a2", "b", reader="second"))
    found = with_answers(read_labelled(place), place, [first.uri, second.uri])
    assert set(labels(found.table)) == {"a3.png", "b0.png", "b1.png", "b2.png", "b3.png"}
    assert found.counts["left_out"] == {NOT_A_HEAD: 1, UNSURE: 2, CONTRADICTED: 1}
    said = capsys.readouterr().err
    assert "RB says a, second says b" in said
    assert f"left out: 1 × {CONTRADICTED}" in said


def test_images_of_the_archive_that_was_read_are_added_from_where_they_are(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "new.png").write_bytes(b"new")
    with zipfile.ZipFile(tmp_path / "night.zip", "w") as archive:
        archive.writestr("in.png", b"packed")
    answers = write(
        tmp_path / "answers.csv",
        row("new", "b", uri="night/new.png"),  # as a path relative to the table
        row("packed", "a", uri=f"{tmp_path}/night.zip::in.png"),
        row("old", "a", uri=f"{tmp_path}/night/new.png"),
        row("gone", "a", uri=f"{tmp_path}/night/gone.png"),
        row("secret", "a", uri="image:0123456789abcdef"),
        row("slice", "a", uri=f"{tmp_path}/head.nii.gz#slice=3"),
    )
    found = with_answers(read_labelled(place), place, [answers.uri])
    added = found.table.slice(8).to_pylist()
    assert [(one["uri"], one["label"], one["row_id"]) for one in added] == [
        (f"{tmp_path}/night/new.png", "b", 8), (f"{tmp_path}/night.zip::in.png", "a", 9),
    ]  # fmt: skip
    assert added[1]["container"] == f"{tmp_path}/night.zip"
    assert found.counts["left_out"] == {CHANGED: 2, PSEUDONYM: 1, SLICES: 1}


def test_an_added_image_stays_with_its_patient(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    (tmp_path / "night").mkdir()
    for number in range(2):
        (tmp_path / "night" / f"new{number}.png").write_bytes(f"new{number}".encode())
    rows = [row(f"new{number}", "b", uri=f"{tmp_path}/night/new{number}.png") for number in range(2)]
    table = with_answers(read_labelled(place), place, [write(tmp_path / "answers.csv", *rows).uri]).table
    patients = ["key,patient", *(f"{label}{number}.png,{label}{number}" for label in "ab" for number in range(4))]
    (tmp_path / "patients.csv").write_text("\n".join([*patients, "new0.png,b1", "new1.png,b1"]))
    table = with_patients(table, place, str(tmp_path / "patients.csv"))
    group = dict(zip(labels(table), join_groups(table["group"].to_pylist()).tolist(), strict=True))
    assert group["new0.png"] == group["new1.png"] == group["b1.png"]
    for seed in range(5):
        split = split_by_group(table["label"].to_pylist(), np.array(list(group.values())), validation=0.25, test=0.25, seed=seed)
        side = dict(zip(group, split.tolist(), strict=True))
        assert side["new0.png"] == side["new1.png"] == side["b1.png"]


def test_answers_about_other_images_are_refused_and_say_why(tmp_path: Path) -> None:
    place = data(tmp_path / "data")
    answers = write(tmp_path / "answers.csv", row("other", "a", uri="image:0123456789abcdef"))
    with pytest.raises(AnswersError, match=r"no answer is about an image of .*1 × not in --data, and of a private run"):
        with_answers(read_labelled(place), place, [answers.uri])
