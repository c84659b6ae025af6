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
    wait much. `folder`: it is one, and opening it lists one level.
    """

    open: "Callable[[], Iterable[Item]]"
    folder: bool = False


@dataclass(frozen=True, slots=True)
class EndOf:
    """Comes out after the last item of the input number `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Once:
    """A folder that a link leads to: opened when its turn comes, and only where no link before it led to the same folder.

    Folders that link to each other are 2ⁿ paths to one image; so each is read once by its own name and once by a link.
    """

    uri: str
    identity: tuple[int, int]  # device and inode
    open: "Callable[[], Iterable[Item]]"


Item = Entry | Skipped | EndOf | Later | Once
Found = Entry | Skipped | EndOf | Once
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


class LinkedFolderError(Exception):
    """A link to a folder, which only one listing of everything can follow once."""


def in_order(items: Iterable[Item], *, threads: int, links: bool = True) -> Iterator[Entry | Skipped | EndOf]:
    """The items, each `Later` replaced by what it holds, depth first. Raises what an `open` raises, when its turn comes, and without
    `links` LinkedFolderError for a link to a folder.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="listing")
    linked: set[tuple[int, int]] = set()
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
            elif isinstance(found, Once):
                if not links:
                    raise LinkedFolderError(found.uri)
                if found.identity in linked:
                    yield Skipped(uri=found.uri, reason="a folder that another link led to already")
                else:
                    linked.add(found.identity)
                    levels.append(_Level(found.open()))
            else:
                yield found
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
