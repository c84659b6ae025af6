"""The order of what would teach most: unsure images first, and unlike each other."""

import numpy as np
import pyarrow as pa

from btc_ray.reports.worklist.teaching import HELD, Teaching, gradient_lengths, teaching_order
from btc_ray.reports.worklist.worklist import read_worklist
from tests.reports.worklist.test_worklist import CLASSES, scores, worklist

UNKNOWN = np.full(1000, np.nan)


def test_a_certain_answer_teaches_nothing_and_an_even_one_most_of_two() -> None:
    lengths = gradient_lengths(np.array([[1, 0, 0], [0.9, 0.1, 0], [0.5, 0.5, 0]]))
    np.testing.assert_allclose(lengths, [0, 0.1, 0.5])


def test_after_the_most_uncertain_image_comes_one_that_is_unsure_between_other_classes() -> None:
    first, alike, other = [0.5, 0.5, 0, 0], [0.5, 0.49, 0.01, 0], [0, 0, 0.55, 0.45]
    order = teaching_order(np.array([alike, other, first]), UNKNOWN[:3], np.zeros(3, int), most=3)
    assert order.tolist() == [0, 1, 2] or order.tolist() == [2, 1, 0]
    assert order[1] == 1


def test_neighbours_of_one_series_come_after_an_image_of_another() -> None:
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.7, 0.3]])
    order = teaching_order(probabilities, UNKNOWN[:4], np.array([0, 0, 0, 1]), most=2)
    assert order.tolist() == [0, 3]


def test_an_image_that_is_far_from_the_training_images_is_unlike_one_that_is_near() -> None:
    order = teaching_order(np.full((3, 2), 0.5), np.array([1.0, 1.1, 9.0]), np.zeros(3, int), most=2)
    assert order.tolist() == [0, 2]


def test_the_choice_covers_more_folders_than_the_most_uncertain_rows_do() -> None:
    """200 rows, 90 of them neighbours of one folder whose answers are the least certain of all."""
    random = np.random.default_rng(0)
    sure = np.where(np.arange(200) < 90, 0.5, random.uniform(0.6, 0.8, 200))
    probabilities, group = np.stack([sure, 1 - sure], axis=1), np.where(np.arange(200) < 90, 0, np.arange(200) // 5)
    order = teaching_order(probabilities, UNKNOWN[:200], group, most=20)
    assert len(set(group[order])) == 20
    assert len(set(group[np.argsort(sure, kind="stable")[:20]])) == 1


def test_copies_are_shown_once_and_batches_change_nothing() -> None:
    table = scores(400)
    table = pa.concat_tables([table, table.set_column(0, "row_id", pa.array(np.arange(400, 800)))])
    found = [
        read_worklist(table.to_batches(size), CLASSES, most=50, decision={}, order="teaching").chosen() for size in (17, 10_000)
    ]
    assert found[0].equals(found[1])
    assert len(found[0]) == 50 == len(set(found[0]["content_sha256"].to_pylist()))
    assert found[0].column_names == worklist(table).chosen().column_names


def test_memory_is_for_a_few_candidates_of_each_row_shown() -> None:
    teaching = Teaching(most=3, columns=tuple(f"prob_{name}" for name in CLASSES))
    table = worklist(scores(500), most=500).chosen()
    teaching.add(table)
    teaching.add(table.set_column(0, "row_id", pa.array(np.arange(500, 500 + len(table)))))
    assert teaching.rows is not None
    assert len(teaching.rows) == HELD * 3
