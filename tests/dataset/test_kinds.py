"""In which way two copies differ, also where they were never compared themselves."""

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.dataset.copies import PAIRS, Copies
from btc_ray.dataset.groups import connected
from btc_ray.dataset.kinds import closest_kinds, orientations
from btc_ray.dataset.likeness import TRANSFORMS


def linked(count: int, *links: tuple[int, int, str, str]) -> Copies:
    rows = [dict(zip(PAIRS.names, (first, second, way, 1.0, kind), strict=True)) for first, second, way, kind in links]
    pairs = pa.Table.from_pylist(rows, schema=PAIRS)
    return Copies(groups=connected(count, pairs["first"].to_numpy(), pairs["second"].to_numpy()), pairs=pairs)


@pytest.mark.parametrize("first", list(TRANSFORMS))
@pytest.mark.parametrize("second", list(TRANSFORMS))
def test_transforms_on_the_way_between_two_copies_are_combined(first: str, second: str) -> None:
    picture = np.arange(16).reshape(4, 4)
    # 1 laid by `first` is 0, and 2 laid by `second` is 1; the link from 1 is met from either end.
    one = {TRANSFORMS[name](picture).tobytes(): TRANSFORMS[name](picture) for name in TRANSFORMS}
    middle = next(laid for laid in one.values() if (TRANSFORMS[first](laid) == picture).all())
    last = next(laid for laid in one.values() if (TRANSFORMS[second](laid) == middle).all())
    for links in (
        [(0, 1, first, "re-encoded"), (1, 2, second, "re-encoded")],
        [(1, 2, second, "re-encoded"), (0, 1, first, "re-encoded")],
    ):
        laid = orientations(linked(3, *links))
        assert laid[0] == 0
        assert (TRANSFORMS[list(TRANSFORMS)[laid[2]]](last) == picture).all()


def test_a_mirrored_copy_of_a_mirrored_copy_is_upright_again() -> None:
    copies = linked(3, (0, 1, "flip_lr", "mirrored"), (1, 2, "flip_lr", "mirrored"))
    kinds = closest_kinds(copies, np.array([False, False, True]), np.array([True, False, False]))
    assert kinds.tolist() == [None, None, "re-encoded"]
    kinds = closest_kinds(copies, np.array([False, False, True]), np.array([False, True, False]))
    assert kinds[2] == "mirrored"


def test_the_closest_of_several_copies_is_told() -> None:
    copies = linked(
        6,
        (0, 1, "identity", "same file"),
        (0, 2, "identity", "same pixels"),
        (0, 3, "rot180", "mirrored"),
        (0, 4, "rot90", "turned"),
    )
    asked = np.array([True, False, False, False, False, True])
    for among, kind in (((1, 2, 3, 4), "same file"), ((2, 3, 4), "same pixels"), ((3, 4), "mirrored"), ((4,), "turned")):
        kinds = closest_kinds(copies, asked, np.isin(np.arange(6), among))
        assert kinds.tolist() == [kind, None, None, None, None, None]


def test_without_copies_nothing_is_told() -> None:
    assert closest_kinds(linked(2), np.array([True, False]), np.array([False, True])).tolist() == [None, None]
    assert len(closest_kinds(linked(0), np.zeros(0, bool), np.zeros(0, bool))) == 0
