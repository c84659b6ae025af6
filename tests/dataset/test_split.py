"""Splits keep groups whole, classes in proportion, and the published test images where they are."""

import numpy as np
import pytest

from btc_ray.dataset.split import SplitError, assign_splits

LABELS = ["a"] * 200 + ["b"] * 100


def split(given: list[str | None] | None = None, groups: list[str | None] | None = None, seed: int = 0) -> np.ndarray:
    given = given or [None] * len(LABELS)
    return assign_splits(LABELS, given, groups or [None] * len(LABELS), validation=0.1, test=0.2, seed=seed)


def test_each_class_has_its_share_in_every_split() -> None:
    found = split()
    for name, count in (("a", 200), ("b", 100)):
        of_class = found[np.array(LABELS) == name]
        assert (of_class == "test").sum() == count * 0.2
        assert (of_class == "validation").sum() == count * 0.8 * 0.1


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    assert np.array_equal(split(), split())
    assert not np.array_equal(split(), split(seed=1))


def test_published_test_images_stay_test_and_no_others_join_them() -> None:
    given: list[str | None] = ["train", "test"] * 150
    assert np.array_equal(split(given) == "test", np.array(given) == "test")


def test_a_group_is_never_cut() -> None:
    groups = [f"patient {index // 7}" for index in range(len(LABELS))]
    found = split(groups=groups)
    for patient in set(groups):
        assert len(set(found[np.array(groups) == patient])) == 1


def test_a_group_with_a_published_test_image_does_not_train() -> None:
    given: list[str | None] = ["test"] + ["train"] * 299
    groups: list[str | None] = ["same patient"] * 3 + [None] * 297
    assert set(split(given, groups)[:3]) == {"test"}


def test_too_few_images_of_a_class_are_refused_by_name() -> None:
    with pytest.raises(SplitError, match="class b"):
        assign_splits(["a"] * 50 + ["b"], [None] * 51, [None] * 51, validation=0.1, test=0.2, seed=0)
