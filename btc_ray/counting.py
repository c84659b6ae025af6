"""What the workers of a Ray Data job have done so far, brought to the driver's progress: a job that only writes tells nothing of it.

Only jobs that use Ray load this module.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from btc_ray.pool import beside_driver
from btc_ray.progress import Progress


def new_counter() -> ActorHandle:
    """Beside the driver; what workers are given to count with."""
    return ray.remote(_Counter).options(**beside_driver()).remote()


def counted(table: pa.Table, counter: ActorHandle) -> pa.Table:
    """The table, its rows counted, those whose `status` is not ok as bad."""
    counter.add.remote(len(table), len(table) - table["status"].to_pylist().count("ok"))
    return table


class _Counter:
    def __init__(self) -> None:
        self._images = self._bad = 0

    def add(self, images: int, bad: int) -> None:
        self._images += images
        self._bad += bad

    def read(self) -> tuple[int, int]:
        return self._images, self._bad


@contextmanager
def watched(counter: ActorHandle, progress: Progress) -> Iterator[None]:
    """Bring the workers' count to the driver's progress once a second."""
    over = threading.Event()
    seen_images = seen_bad = 0

    def look() -> None:
        nonlocal seen_images, seen_bad
        try:
            images, bad = ray.get(counter.read.remote(), timeout=10)
        except ray.exceptions.RayError:  # the counter's node is busy or lost: progress is for people, the rows are safe
            return
        images = min(images, progress.total)  # a batch that a lost worker had counted is counted again
        progress.advance(max(images - seen_images, 0), max(bad - seen_bad, 0))
        seen_images, seen_bad = max(images, seen_images), max(bad, seen_bad)

    def watch() -> None:
        while not over.wait(1.0):
            look()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    look()
