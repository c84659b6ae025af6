"""Calls spread over workers: results in order, and an error as it was raised."""

import os
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.ray


def _signed(number: int) -> tuple[int, int]:
    if number == 13:
        raise OSError(28, "No space left on device")
    return number, os.getpid()


def test_calls_are_made_on_workers_and_come_back_in_order(ray_here: None) -> None:
    from btc_ray.workers.tasks import spread

    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            asked.append(number)
            yield number

    found = spread(lambda number: (number, os.getpid()), items())
    first = next(found)
    assert len(asked) < 9, "all were asked for before the first was done"
    rest = [first, *found]
    assert [number for number, _ in rest] == list(range(9))
    assert os.getpid() not in {process for _, process in rest}


def test_what_a_call_raises_is_raised_here_as_it_was(ray_here: None) -> None:
    from btc_ray.workers.tasks import spread

    with pytest.raises(OSError, match="No space left on device") as raised:
        list(spread(_signed, [1, 13]))
    assert raised.value.errno == 28
