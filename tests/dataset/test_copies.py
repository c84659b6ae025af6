"""Copies of one image are one group whatever was done to them; other slices and other heads are not; hordes of equals cost little."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.copies import EDITS, crops, neighbouring_slice, phantoms, recall_and_precision, recoded, relit
from btc_ray.dataset import copies as module
from btc_ray.dataset.copies import PAIRS, contradicting, find_copies, join_groups
from btc_ray.dataset.likeness import TRANSFORMS
from btc_ray.images.decode import decode


@pytest.fixture(scope="module")
def heads() -> list[np.ndarray]:
    """24 phantoms, each another head."""
    return phantoms(24, seed=500)


@pytest.fixture(scope="module")
def pixels(heads: list[np.ndarray]) -> np.ndarray:
    return crops(heads)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.slow
def test_an_edited_copy_is_in_the_group_of_its_original_and_of_no_other(heads: list[np.ndarray], edit: str) -> None:
    assert recall_and_precision(heads, EDITS[edit], seed=3) == (1.0, 1.0)


@pytest.mark.parametrize("edit", ["recoded", "relit", "cut", "flip_ud", "everything"])
def test_copies_are_found_on_crops_of_64_pixels_too(heads: list[np.ndarray], edit: str) -> None:
    recall, precision = recall_and_precision(heads, EDITS[edit], side=64, seed=3)
    assert recall >= 0.95
    assert precision == 1.0


@pytest.mark.parametrize("side", [64, 224])
def test_neighbouring_slices_of_one_head_are_not_copies(heads: list[np.ndarray], side: int) -> None:
    taken, _ = recall_and_precision(heads, neighbouring_slice, side=side)
    assert taken == 0


def test_different_heads_are_groups_of_their_own(pixels: np.ndarray) -> None:
    found = find_copies(pixels)
    assert found.groups.tolist() == list(range(len(pixels)))
    assert found.pairs.schema == PAIRS
    assert len(found.pairs) == 0


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_transform_of_a_pair_lays_the_second_image_on_the_first(pixels: np.ndarray, transform: str) -> None:
    rng = np.random.default_rng(0)
    second = recoded(relit(pixels[5], rng), rng)
    # The copy of which `transform` gives the original back: one of the eight does.
    laid = next(
        turned
        for turned in (np.ascontiguousarray(turn(second)) for turn in TRANSFORMS.values())
        if np.array_equal(TRANSFORMS[transform](turned), second)
    )
    (pair,) = find_copies(np.stack([pixels[5], laid])).pairs.to_pylist()
    kinds = {"identity": "re-encoded", "flip_lr": "mirrored", "flip_ud": "mirrored", "rot180": "mirrored"}
    assert (pair["first"], pair["second"]) == (0, 1)
    assert pair["transform"] == transform
    assert pair["kind"] == kinds.get(transform, "turned")
    assert pair["correlation"] > 0.9


def test_the_names_of_turns_mean_what_numpy_means() -> None:
    square = np.arange(9).reshape(3, 3)
    assert np.array_equal(TRANSFORMS["rot90"](square), np.rot90(square))
    assert np.array_equal(TRANSFORMS["rot270"](square), np.rot90(square, 3))
    assert np.array_equal(TRANSFORMS["rot180"](square), np.rot90(square, 2))
    assert np.array_equal(TRANSFORMS["antitranspose"](square), np.rot90(square, 2).T)


def test_equal_files_and_equal_pixels_are_told_apart(pixels: np.ndarray) -> None:
    hashes = ["a", "b", "a", "c", "d"]
    found = find_copies(pixels[[0, 1, 0, 0, 2]], hashes)
    rows = [(pair["first"], pair["second"], pair["kind"], pair["correlation"]) for pair in found.pairs.to_pylist()]
    assert rows == [(0, 2, "same file", 1.0), (0, 3, "same pixels", 1.0)]
    assert found.groups.tolist() == [0, 1, 0, 0, 2]


def test_groups_and_pairs_say_the_same(heads: list[np.ndarray]) -> None:
    rng = np.random.default_rng(8)
    many = crops([*heads, *(EDITS[str(edit)](heads[rng.integers(6)], rng) for edit in rng.choice(list(EDITS), 30))])
    found = find_copies(many[rng.permutation(len(many))])
    groups = join_groups(range(len(many)))
    for pair in found.pairs.to_pylist():
        groups[groups == groups[pair["second"]]] = groups[pair["first"]]
    assert np.array_equal(join_groups(groups), found.groups)
    assert len(found.pairs) == len(many) - len(set(found.groups))


def test_the_same_images_give_the_same_groups_with_one_thread_and_with_many(
    heads: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    many = crops([*heads[:8], *(EDITS["everything"](head, rng) for head in heads[:8])])
    found = []
    for threads in (1, 5):
        monkeypatch.setattr(module, "_threads", lambda threads=threads: threads)
        found.append(find_copies(many))
    assert np.array_equal(found[0].groups, found[1].groups)
    assert found[0].pairs.equals(found[1].pairs)


@pytest.mark.parametrize("level", [0, 128])
def test_blank_images_are_one_group_and_join_no_head(pixels: np.ndarray, level: int) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (3, 224, 224)).astype(np.uint8)
    found = find_copies(np.concatenate([pixels[:2], level + noise, np.full((1, 224, 224), level, np.uint8)]))
    assert found.groups.tolist() == [0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("make", [np.zeros_like, np.copy], ids=["black", "one head"])
def test_ten_thousand_equal_images_are_one_group_at_once(pixels: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> None:
    began = time.process_time()
    found = find_copies(np.repeat(make(pixels[:1, ::4, ::4]), 10_000, axis=0))
    assert not found.groups.any()
    assert len(found.pairs) == 9_999
    assert time.process_time() - began < 10  # all pairs would be fifty million


@pytest.mark.slow
def test_five_hundred_nearly_equal_images_are_one_group(pixels: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    noisy = pixels[7, ::2, ::2] + rng.normal(0, 2, (500, 112, 112))
    found = find_copies(np.clip(noisy, 0, 255).astype(np.uint8))
    assert not found.groups.any()


@pytest.mark.slow
def test_a_set_too_large_for_exact_search_gives_the_same_groups(heads: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    slices = [neighbouring_slice(head[::2, ::2], rng) for head in heads for _ in range(12)]
    many = crops([*slices, *(EDITS["everything"](grey, rng) for grey in slices[:60])], 64)
    exact = find_copies(many)
    monkeypatch.setattr("btc_ray.dataset.neighbours._EXACT", 100)
    monkeypatch.setattr("btc_ray.dataset.neighbours._LIST", 20)
    indexed = find_copies(many)
    assert (np.bincount(exact.groups) == 2).sum() > 48
    assert np.array_equal(exact.groups, indexed.groups)


def test_no_images_and_one_image_are_fine(pixels: np.ndarray) -> None:
    assert find_copies(np.zeros((0, 64, 64), np.uint8)).groups.shape == (0,)
    assert find_copies(pixels[:1]).groups.tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "hashes"),
    [
        (np.zeros((2, 64, 64), np.float32), None),
        (np.zeros((2, 64, 32), np.uint8), None),
        (np.zeros((64, 64), np.uint8), None),
        (np.zeros((2, 64, 64), np.uint8), ["a"]),
    ],
)
def test_what_cannot_be_compared_is_refused(wrong: np.ndarray, hashes: list[str] | None) -> None:
    with pytest.raises(ValueError, match=r"crops|hashes"):
        find_copies(wrong, hashes)


def test_rows_that_share_a_value_anywhere_are_joined_through_each_other() -> None:
    copies, patients = [0, 1, 1, 2, 3, 4], ["p", "p", "q", None, None, "q"]
    assert join_groups(copies, patients).tolist() == [0, 0, 0, 1, 2, 0]


def test_equal_values_of_different_partitions_are_not_the_same() -> None:
    assert join_groups([0, 1], [1, 0]).tolist() == [0, 1]


def test_groups_are_numbered_in_order_of_their_first_member() -> None:
    assert join_groups(np.array([9, 3, 9, 1, 3])).tolist() == [0, 1, 0, 2, 1]


def test_partitions_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        join_groups([1, 2], [1])


def test_every_row_of_a_group_with_two_labels_is_contradicting() -> None:
    groups = np.array([0, 1, 0, 2, 1, 5])
    labels = np.array(["glioma", "notumor", "pituitary", "glioma", "notumor", "glioma"])
    assert contradicting(groups, labels).tolist() == [True, False, True, False, False, False]
    assert contradicting(groups[:0], labels[:0]).shape == (0,)


@pytest.mark.shared
@pytest.mark.slow
def test_copies_of_real_images_are_found_and_only_those(real_images: Path) -> None:
    paths = [path for name in ("glioma", "notumor") for path in sorted((real_images / "Testing" / name).glob("*.jpg"))[:60]]
    greys = [decode(path.read_bytes()) for path in paths]
    hashes = [hashlib.sha256(grey.tobytes()).hexdigest() for grey in greys]
    _, firsts = np.unique(find_copies(crops(greys), hashes).groups, return_index=True)
    for edit in ("cut", "sharpened", "everything"):
        recall, precision = recall_and_precision([greys[row] for row in firsts], EDITS[edit])
        assert recall >= 0.98, edit
        assert precision == 1.0, edit
