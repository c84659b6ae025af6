"""What a model trained on is never counted in silence: the sets, what they leave out, and what they say."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.reports.evaluation.sets import (
    ALL,
    CLEAN,
    GROUP,
    NEW,
    PUBLISHED,
    ImageSet,
    Missing,
    TrainingOverlap,
    Truth,
    choose_sets,
    training_overlap,
)

# name, label, content, group, published test, split in the model's record (None: not in it)
Row = tuple[str, str, str | None, int, bool, str | None]
FOLDERS: list[Row] = [
    ("train-1", "a", "one", 0, False, "train"),
    ("train-2", "b", "two", 1, False, "train"),
    ("chosen", "b", "three", 2, False, "validation"),
    ("mirrored", "a", "four", 0, True, "test"),  # a copy of train-1
    ("same bytes", "b", "two", 1, True, "test"),
    ("beside validation", "b", "five", 2, True, "test"),
    ("alone", "a", "six", 3, True, "test"),
    ("doubtful", "a", "seven", 4, True, "test"),
    ("doubtful too", "b", "eight", 4, True, "test"),
    ("broken", "b", None, 5, True, None),
]
GROUPED: list[Row] = [
    ("train", "a", "one", 0, True, "train"),
    ("held", "a", "two", 1, False, "test"),
    ("held too", "a", "three", 1, True, "test"),
    ("left out", "b", "four", 2, False, "left_out"),
    ("rest", "b", "five", 3, False, "validation"),
]


def truth_of(rows: list[Row]) -> Truth:
    names, labels, contents, groups, published, _ = (list(column) for column in zip(*rows, strict=True))
    clashing = [len({row[1] for row in rows if row[3] == group}) > 1 for group in groups]
    return Truth(
        uri=np.array(names, object),
        label=np.array(labels, object),
        content_sha256=np.array(contents, object),
        group=np.array(groups),
        published_test=np.array(published),
        contradicting=np.array(clashing),
    )


def record_of(rows: list[Row], *, groups: bool = True) -> pa.Table:
    return pa.table(
        {
            "uri": [row[0] for row in rows if row[5]],
            "content_sha256": [row[2] for row in rows if row[5]],
            "split": [row[5] for row in rows if row[5]],
            "group": pa.array([row[3] + 100 if groups else None for row in rows if row[5]], pa.int64()),
        }
    )


def chosen(
    rows: list[Row], split: str | None, *, record: pa.Table | None = None
) -> tuple[dict[str, ImageSet], dict[str, Missing], TrainingOverlap]:
    truth = truth_of(rows)
    overlap = training_overlap(truth, record_of(rows) if record is None else record)
    sets, missing = choose_sets(truth, overlap, split, data="DATA", models=["here"])
    return {one.key: one for one in sets}, {one.key: one for one in missing}, overlap


def names(rows: list[Row], one: ImageSet) -> list[str]:
    return [row[0] for row, taken in zip(rows, one.rows, strict=True) if taken]


def test_the_published_split_is_all_of_it_and_says_how_much_was_seen() -> None:
    sets, missing, _ = chosen(FOLDERS, "folders")
    published = sets[PUBLISHED]
    assert names(FOLDERS, published) == [row[0] for row in FOLDERS if row[4]]
    assert (published.seen, published.copy_seen, published.contradicting) == (1, 3, 2)
    said = "; ".join(published.remarks)
    assert "3 of 7 have a copy among the images that the model trained on" in said
    assert "1 are byte for byte" in said
    assert "2 have a copy with another label" in said
    assert list(missing) == [GROUP]
    assert "--split group" in missing[GROUP].commands[0]
    assert "--model here BUNDLE" in missing[GROUP].commands[1]


def test_a_test_image_with_a_copy_in_training_or_a_doubtful_label_is_not_in_the_clean_part() -> None:
    sets, _, _ = chosen(FOLDERS, "folders")
    clean = sets[CLEAN]
    assert names(FOLDERS, clean) == ["alone", "broken"]
    assert (clean.seen, clean.copy_seen, clean.contradicting) == (0, 0, 0)
    assert sorted(clean.left_out.values()) == [2, 3]
    assert any("none has a copy" in remark for remark in clean.remarks)


def test_copies_of_training_images_that_are_not_among_the_data_are_known_from_the_record() -> None:
    only_tests = [row for row in FOLDERS if row[4]]
    sets, _, overlap = chosen(only_tests, "folders", record=record_of(FOLDERS))
    assert (overlap.trained_on, overlap.present) == (3, 1)
    assert names(only_tests, sets[CLEAN]) == ["alone", "broken"]


def test_data_that_was_moved_is_recognised_by_its_bytes() -> None:
    record = record_of(FOLDERS).set_column(0, "uri", [[f"/elsewhere/{row[0]}" for row in FOLDERS if row[5]]])
    sets, _, _ = chosen(FOLDERS, "folders", record=record)
    assert names(FOLDERS, sets[CLEAN]) == ["alone", "broken"]


def test_a_group_model_is_measured_on_what_it_held_out() -> None:
    sets, missing, _ = chosen(GROUPED, "group")
    assert list(sets) == [GROUP]
    assert names(GROUPED, sets[GROUP]) == ["held", "held too"]
    assert sets[GROUP].seen == sets[GROUP].copy_seen == 0
    assert "on 1 of the 2 published test images" in missing[PUBLISHED].reason
    assert "--split folders" in missing[CLEAN].commands[0]


def test_a_held_out_image_that_turns_out_to_have_a_copy_in_training_is_left_out_and_counted() -> None:
    rows = [*GROUPED, ("found later", "a", "six", 0, False, "test")]
    record = record_of(rows).set_column(3, "group", [list(range(len(rows)))])  # the record knew of no copies
    sets, _, _ = chosen(rows, "group", record=record)
    assert "found later" not in names(rows, sets[GROUP])
    assert sets[GROUP].left_out == {"with a copy that was trained on": 1}


def test_data_that_the_model_has_never_seen_is_all_counted_but_for_contradicting_labels() -> None:
    foreign: list[Row] = [(row[0], row[1], row[2] and f"new {row[2]}", row[3], row[4], None) for row in FOLDERS]
    sets, missing, _ = chosen(foreign, "folders", record=record_of(FOLDERS))
    assert list(sets) == [NEW]
    assert names(foreign, sets[NEW]) == [row[0] for row in FOLDERS if not row[0].startswith("doubtful")]
    assert any("holds 0 of the 3 images" in remark for remark in sets[NEW].remarks)
    assert list(missing) == [PUBLISHED, CLEAN, GROUP]


def test_images_that_came_later_are_a_set_of_their_own_less_copies_of_what_was_seen() -> None:
    later: list[Row] = [
        ("later", "a", "nine", 9, False, None),
        ("later copy", "a", "ten", 0, False, None),
        ("later broken", "a", None, 10, False, None),
    ]
    rows = [*GROUPED, *later]
    sets, _, _ = chosen(rows, "group", record=record_of(GROUPED))
    assert names(rows, sets[NEW]) == ["later"]
    assert sets[NEW].left_out == {"with a copy that was trained on": 1}


@pytest.mark.parametrize(("rows", "key", "images"), [(FOLDERS, PUBLISHED, 7), (GROUPED[1:2] + GROUPED[3:], ALL, 3)])
def test_without_a_record_it_is_unknown_and_said(rows: list[Row], key: str, images: int) -> None:
    sets, missing = choose_sets(truth_of(rows), None, None, data="my data", models=["a model"])
    assert [(one.key, int(one.rows.sum()), one.seen) for one in sets] == [(key, images, None)]
    assert "unknown" in sets[0].remarks[0]
    assert {one.key for one in missing} == {PUBLISHED, CLEAN, GROUP} - {key}
    group = next(one for one in missing if one.key == GROUP)
    assert group.commands[1] == "btc-ray evaluate --model 'a model' BUNDLE --data 'my data' --output DIR"


@pytest.mark.parametrize("split", ["folders", "group"])
def test_no_set_holds_an_image_that_was_seen_except_the_published_one(split: str) -> None:
    random: Any = np.random.default_rng(4)
    rows: list[Row] = [
        (
            f"{number}",
            str(random.choice(["a", "b"])),
            f"{random.integers(150)}",
            int(random.integers(80)),
            bool(random.random() < 0.3),
            [None, "train", "validation", "test", "left_out"][random.integers(5)],
        )
        for number in range(300)
    ]
    sets, missing, overlap = chosen(rows, split)
    assert {PUBLISHED, CLEAN, GROUP} <= sets.keys() | missing.keys()
    for key, one in sets.items():
        assert one.seen == (one.rows & overlap.seen).sum()
        if key != PUBLISHED:
            assert not (one.rows & overlap.copy_seen).any()
