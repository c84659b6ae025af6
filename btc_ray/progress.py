"""Progress on stderr: a bar on a terminal, a line every 30 s elsewhere; images done (or what else is counted), so many a second, time
left, bad so far."""

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY_S = 30.0

_CONTROL = [code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
_DIRECTION = [0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # Unicode's bidi controls
_OBEYED = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in (*_CONTROL, *_DIRECTION)}


def say(message: str) -> None:
    """One line to stderr."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with what a terminal would obey written out: escape sequences, carriage returns, marks that turn the reading direction.

    A file may be called anything. Line breaks and tabs stay.
    """
    return text.translate(_OBEYED)


class Progress:
    """Counts what is done; safe to advance from several threads. Use as a context manager."""

    def __init__(self, what: str, total: int, *, done: int = 0, unit: str = "images") -> None:
        self.what, self.total, self.done, self.bad, self.unit = what, total, done, 0, unit
        self._before = done  # done by an earlier run: not part of the rate
        self._lock = threading.Lock()
        self._bar: RichProgress | None = None

    def __enter__(self) -> "Progress":
        self._started = self._said = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.0f}/s, {task.fields[bad]} bad"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, rate=0.0, bad=0)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None:
            say(self.line())

    def advance(self, images: int, bad: int = 0) -> None:
        """`images` more are done, `bad` of them not ok."""
        with self._lock:
            self.done += images
            self.bad += bad
            if self._bar is not None:
                self._bar.update(self._task, completed=self.done, rate=self.rate(), bad=self.bad)
            elif time.monotonic() - self._said >= LINE_EVERY_S:
                self._said = time.monotonic()
                say(self.line())

    def rate(self) -> float:
        """Images per second since this process began with them."""
        return (self.done - self._before) / max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        """Where it stands, in words."""
        text = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}"
        if self.done > self._before:
            rate = self.rate()
            text += f", {rate:,.0f} {self.unit}/s"
            if self.done < self.total:
                text += f", about {duration((self.total - self.done) / rate)} left"
        return f"{text}, {self.bad:,} bad" if self.bad else text


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
