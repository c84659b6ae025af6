"""What was opened last is opened once, however many threads go on with it."""

import threading

import pytest

from btc_ray.images.kept import MOST, MOST_BYTES, Kept


def _counting(size: int | None = 1) -> tuple[Kept[str, str], list[str]]:
    return Kept(size=lambda made: size), []


def _get(kept: Kept[str, str], made: list[str], key: str) -> str:
    def make() -> str:
        made.append(key)
        return key.upper()

    return kept.get(key, make)


def test_what_is_asked_for_again_is_not_made_again() -> None:
    kept, made = _counting()
    assert [_get(kept, made, key) for key in "abab"] == ["A", "B", "A", "B"]
    assert made == ["a", "b"]


def test_the_one_that_was_asked_for_longest_ago_goes_first() -> None:
    kept, made = _counting()
    for key in [*"abcd"[:MOST], "a", "e", "a", "b"]:
        _get(kept, made, key)
    assert made == [*"abcd", "e", "b"]


def test_beyond_the_bytes_only_the_last_stays() -> None:
    kept, made = _counting(size=MOST_BYTES + 1)
    for key in "aaba":
        _get(kept, made, key)
    assert made == ["a", "b", "a"]


def test_what_is_not_worth_it_is_not_kept() -> None:
    kept, made = _counting(size=None)
    assert [_get(kept, made, "a") for _ in range(2)] == ["A", "A"]
    assert made == ["a", "a"]


def test_an_error_is_raised_and_not_kept() -> None:
    kept, made = _counting()

    def fail() -> str:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept.get("a", fail)
    assert _get(kept, made, "a") == "A"


def test_who_asks_while_it_is_made_waits_for_it() -> None:
    kept: Kept[str, list[int]] = Kept(size=lambda made: 1)
    begun, go = threading.Event(), threading.Event()
    made: list[list[int]] = []

    def slowly() -> list[int]:
        begun.set()
        assert go.wait(10)
        return [1]

    threads = [threading.Thread(target=lambda: made.append(kept.get("a", slowly))) for _ in range(3)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 3
    assert made[0] is made[1] is made[2]
