"""What workers tell the driver while a job runs: how many rows they did, and what they learned. Nothing is imported here but Python's own:
the process of this actor starts at once.
"""

from typing import Any

held: list[Any] = []
"""The actor's handles of this process: an actor lives while there is one. `release` lets it go before Ray is left."""


def release() -> None:
    """Before `ray.shutdown`: what is still referred to by then can end the process."""
    held.clear()


class ProgressActor:
    """An actor. `job` is whatever tells what one job says from what another does."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, job: str, images: int, bad: int) -> None:
        before, bad_before = self._counts.get(job, (0, 0))
        self._counts[job] = before + images, bad_before + bad

    def read(self, job: str) -> tuple[int, int]:
        return self._counts.get(job, (0, 0))

    def append(self, job: str, rows: list[dict[str, Any]]) -> None:
        self._rows.setdefault(job, []).extend(rows)

    def since(self, job: str, position: int) -> list[dict[str, Any]]:
        return self._rows.get(job, [])[position:]

    def forget(self, job: str) -> None:
        self._counts.pop(job, None)
        self._rows.pop(job, None)
