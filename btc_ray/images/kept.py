"""What was opened last, kept for the threads that go on with it: frames of one file come one after the other, and it is opened once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")
MOST = 4  # files at a time: threads are at the end of one and at the start of the next
MOST_BYTES = 2**28  # of all of them together, but for the last, which is kept whatever its size


@dataclass(eq=False)
class _One(Generic[K, T]):
    key: K
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: T | None = None
    size: int = 0


class Kept(Generic[K, T]):
    """Makes a thing for a key once, while its key is among the last that were asked for. Thread-safe: who asks for what another thread is
    making waits for it.

    `size` tells how many bytes a thing holds, None that it is not worth keeping.
    """

    def __init__(self, size: Callable[[T], int | None]) -> None:
        self._size = size
        self._ones: list[_One[K, T]] = []
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """The thing of `key`, made by `make` where it is not kept; raises what `make` raises, and then keeps nothing."""
        with self._lock:
            one = next((one for one in self._ones if one.key is key or one.key == key), None)
            if one is None:
                one = _One[K, T](key)
            self._ones = [one, *(other for other in self._ones if other is not one)][:MOST]
        with one.lock:
            if one.made is not None:
                return one.made
            made, size = None, None
            try:
                made = make()
                size = self._size(made)
            finally:
                with self._lock:
                    if size is None:
                        self._ones = [other for other in self._ones if other is not one]
                    else:
                        one.made, one.size = made, size
                        self._ones = self._within(one)
            return made

    def _within(self, last: _One[K, T]) -> list[_One[K, T]]:
        total, kept = last.size, []
        for one in self._ones:
            total += 0 if one is last else one.size
            if one is last or total <= MOST_BYTES:
                kept.append(one)
        return kept
