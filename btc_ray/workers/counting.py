"""What the workers of a job have done so far, brought to the driver: a Ray Data job that only writes tells nothing of it.

Only jobs that use Ray load this module.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from btc_ray.progress import Progress
from btc_ray.workers.counter import ProgressActor, held
from btc_ray.workers.pool import beside_driver


@dataclass(frozen=True, kw_only=True)
class ProgressChannel:
    """What the workers of one job are given to tell the driver with."""

    actor: ActorHandle
    job: str

    def add(self, images: int, bad: int) -> None:
        """Count images that are done, and those of them that are not ok."""
        self.actor.add.remote(self.job, images, bad)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Tell something else, as rows."""
        self.actor.append.remote(self.job, rows)

    def counts(self) -> tuple[int, int]:
        """Images, and bad ones, so far. Raises RayError where the actor does not answer."""
        return ray.get(self.actor.read.remote(self.job), timeout=10)

    def since(self, position: int) -> list[dict[str, Any]]:
        """The rows told from a position on. Raises RayError where the actor does not answer."""
        return ray.get(self.actor.since.remote(self.job, position))


@contextmanager
def progress_channel() -> Iterator[ProgressChannel]:
    """A job's own, by an actor beside the driver that serves all jobs of this driver: its process starts once."""
    where = beside_driver()
    name = f"btc-ray-progress-{ray.get_runtime_context().get_job_id()}"
    found = ProgressChannel(
        actor=ray.remote(ProgressActor).options(name=name, get_if_exists=True, **where).remote(), job=uuid.uuid4().hex
    )
    held.append(found.actor)
    try:
        yield found
    finally:
        found.actor.forget.remote(found.job)


class ProgressReporter:
    """A worker's own count, reported to the counter once a second: a call costs both processes together as much as half an image."""

    def __init__(self, counter: ProgressChannel) -> None:
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
        self._counter.add(self._images, self._bad)
        self._images = self._bad = 0
        self._reported = time.monotonic()


@contextmanager
def watched(counter: ProgressChannel, progress: Progress) -> Iterator[None]:
    """Bring the workers' count to the driver's progress once a second."""
    over = threading.Event()
    seen_images = seen_bad = 0

    def look() -> None:
        nonlocal seen_images, seen_bad
        try:
            images, bad = counter.counts()
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
