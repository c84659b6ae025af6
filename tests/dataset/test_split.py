"""Splits keep groups whole, classes in proportion, and the published test images where they are."""

import numpy as np
import pytest

from btc_ray.dataset.split import SplitError, fold_of_groups, split_as_published, split_by_group, split_of_fold

LABELS = ["a"] * 200 + ["b"] * 100
ALONE = np.arange(300)
GIVEN: list[str | None] = ["train", "train", "test"] * 100


def split(groups: np.ndarray = ALONE, seed: int = 0, held: list[str | None] | None = None) -> np.ndarray:
    return split_by_group(LABELS, groups, validation=0.1, test=0.2, seed=seed, held=held)


def published(copies: np.ndarray = ALONE, groups: np.ndarray = ALONE, given: list[str | None] = GIVEN) -> np.ndarray:
    return split_as_published(LABELS, given, copies, groups, validation=0.1, seed=0)


def test_each_class_has_its_share_in_every_split() -> None:
    found = split()
    for name, count in (("a", 200), ("b", 100)):
        of_class = found[np.array(LABELS) == name]
        assert (of_class == "test").sum() == count * 0.2
        assert (of_class == "validation").sum() == count * 0.8 * 0.1


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    assert np.array_equal(split(), split())
    assert not np.array_equal(split(), split(seed=1))


def test_a_group_is_never_cut() -> None:
    groups = np.arange(300) // 7
    found = split(groups)
    for group in set(groups.tolist()):
        assert len(set(found[groups == group])) == 1


def test_an_image_without_a_group_is_left_out() -> None:
    assert (split(np.where(ALONE % 10 == 3, -1, ALONE)) == "left_out").sum() == 30


def test_a_group_that_another_model_learned_from_never_measures_and_one_that_measured_it_measures_again() -> None:
    before = split(seed=1)
    held: list[str | None] = [name if number % 2 else None for number, name in enumerate(before.tolist())]
    found = split(ALONE // 2, held=held)
    assert set(found[np.repeat(before[1::2] == "train", 2)]) <= {"train"}
    assert set(found[np.repeat(before[1::2] == "test", 2)]) == {"test"}


def test_a_group_with_images_on_both_sides_of_another_models_split_does_not_measure() -> None:
    held: list[str | None] = ["test", "train", *[None] * 298]
    assert set(split(ALONE // 2, held=held)[:2]) == {"train"}


def test_published_test_images_stay_test_and_no_others_join_them() -> None:
    assert np.array_equal(published() == "test", np.array(GIVEN) == "test")


def test_validation_is_taken_from_the_published_training_images_by_group_of_copies() -> None:
    copies = ALONE // 4
    found = published(copies)
    assert (found == "validation").sum() == pytest.approx(20, abs=4)
    learned = copies[found == "train"]
    assert not np.isin(copies[found == "validation"], learned).any()


def test_a_patient_with_a_published_test_image_does_not_train() -> None:
    assert published(groups=np.where(ALONE < 3, 0, ALONE)).tolist()[:3] == ["left_out", "left_out", "test"]


def test_the_published_split_needs_published_test_images() -> None:
    with pytest.raises(SplitError, match="--split group"):
        published(given=[None] * 300)


def test_too_few_images_of_a_class_are_refused_by_name() -> None:
    with pytest.raises(SplitError, match="class b"):
        split_by_group(["a"] * 50 + ["b"], np.arange(51), validation=0.1, test=0.2, seed=0)


PATIENTS = ALONE // 7  # some of both classes


def test_every_group_measures_in_one_fold_and_each_class_is_spread_evenly() -> None:
    folds = fold_of_groups(LABELS, PATIENTS, folds=5, seed=0)
    assert all(len(set(folds[patient == PATIENTS])) == 1 for patient in set(PATIENTS))
    for name, count in (("a", 200), ("b", 100)):
        sizes = np.bincount(folds[np.array(LABELS) == name], minlength=5)
        assert sizes.sum() == count
        assert np.ptp(sizes) <= 7  # one patient


def test_folds_follow_the_seed_and_leave_out_what_has_no_group() -> None:
    groups = np.where(ALONE % 10 == 3, -1, PATIENTS)
    folds = fold_of_groups(LABELS, groups, folds=3, seed=0)
    assert np.array_equal(folds, fold_of_groups(LABELS, groups, folds=3, seed=0))
    assert not np.array_equal(folds, fold_of_groups(LABELS, groups, folds=3, seed=1))
    assert np.array_equal(folds < 0, groups < 0)
    assert np.array_equal(split_of_fold(LABELS, groups, folds, 0, validation=0.1, seed=0) == "left_out", groups < 0)


def test_in_the_split_of_a_fold_no_patient_is_on_two_sides_and_without_a_fold_nobody_measures() -> None:
    folds = fold_of_groups(LABELS, PATIENTS, folds=3, seed=0)
    for fold in range(3):
        found = split_of_fold(LABELS, PATIENTS, folds, fold, validation=0.1, seed=0)
        assert np.array_equal(found == "test", folds == fold)
        assert all(len(set(found[patient == PATIENTS])) == 1 for patient in set(PATIENTS))
        assert set(found) == {"train", "validation", "test"}
    assert set(split_of_fold(LABELS, PATIENTS, folds, None, validation=0.1, seed=0)) == {"train", "validation"}


def test_a_class_of_fewer_patients_than_folds_is_named() -> None:
    with pytest.raises(SplitError, match="class b has 2 groups, and --folds 5"):
        fold_of_groups(["a"] * 10 + ["b"] * 2, np.arange(12), folds=5, seed=0)
