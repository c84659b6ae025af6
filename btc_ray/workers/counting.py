"""What the workers of a Ray Data job have done so far, brought to the driver's progress: a job that only writes tells nothing of it.

Only jobs that use Ray load this module.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from btc_ray.progress import Progress
from btc_ray.workers.counter import ProgressActor
from btc_ray.workers.pool import beside_driver


def new_counter() -> ActorHandle:
    """Beside the driver; what workers are given to count with."""
    return ray.remote(ProgressActor).options(**beside_driver()).remote()


class ProgressReporter:
    """A worker's own count, reported to the counter once a second: a call costs both processes together as much as half an image."""

    def __init__(self, counter: ActorHandle) -> None:
        self._counter = counter
        self._images = self._bad = 0
        self._reported = time.monotonic()

    def counted(self, table: pa.Table) -> pa.Table:
        """The table, its rows counted, those whose `status` is not ok as bad."""
        self._images += len(table)
        self._bad += len(table) - table["status"].to_pylist().count("ok")
        if time.monotonic() - self._reported > 1.0:
            self.report()
        return table

    def report(self) -> None:
        """Report to the counter now, as at the end of a block."""
        self._counter.add.remote(self._images, self._bad)
        self._images = self._bad = 0
        self._reported = time.monotonic()


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
