"""Listing in parallel with one order: places (folders, archives) are opened ahead by threads, their contents come out depth
first.

Promises the order of a listing done one place at a time, whatever the threads do. Held in memory: per level of folders, at most
`threads` opened places and `_ITEMS_AHEAD` items.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from btc_ray.archive.entries import Entry, Skipped

_ITEMS_AHEAD = 2_000


@dataclass(frozen=True, slots=True)
class Later:
    """A place still to be opened. `open` runs in a thread and does the waiting; what it returns may be lazy but must not
    wait much.
    """

    open: "Callable[[], Iterable[Item]]"


@dataclass(frozen=True, slots=True)
class EndOf:
    """Comes out after the last item of the input number `number`."""

    number: int


Item = Entry | Skipped | EndOf | Later
Found = Entry | Skipped | EndOf
_Opening = tuple[Later, "Future[Iterable[Item]]"]


class _Level:
    """What is left of one opened place, with the places in it already being opened."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._ahead: deque[Found | _Opening] = deque()
        self._opening = 0
        self._ended = False

    def next(self, pool: ThreadPoolExecutor, threads: int) -> Found | _Opening | None:
        while not self._ended and self._opening < threads and len(self._ahead) < _ITEMS_AHEAD:
            item = next(self._items, None)
            if item is None:
                self._ended = True
            elif isinstance(item, Later):
                self._ahead.append((item, pool.submit(item.open)))
                self._opening += 1
            else:
                self._ahead.append(item)
        if not self._ahead:
            return None
        item_or_opening = self._ahead.popleft()
        self._opening -= isinstance(item_or_opening, tuple)
        return item_or_opening


def in_order(items: Iterable[Item], *, threads: int) -> Iterator[Found]:
    """The items, each `Later` replaced by what it holds, depth first. Raises what an `open` raises, when its turn comes."""
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="listing")
    try:
        levels = [_Level(items)]
        while levels:
            found = levels[-1].next(pool, threads)
            if found is None:
                levels.pop()
            elif isinstance(found, tuple):
                later, opening = found
                # Not started yet, because threads are busy further on: opened here, since nothing can come out before it.
                levels.append(_Level(later.open() if opening.cancel() else opening.result()))
            else:
                yield found
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
