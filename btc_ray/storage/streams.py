"""What is printed while a job runs: without credentials, with no character that the terminal lacks, and never the end of the job. A
service has no terminal, a log's disk is full, a pipe is closed: what cannot be printed is lost, and the rows are not."""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from btc_ray.progress import printable
from btc_ray.storage.redact import redact


def open_closed_streams() -> None:
    """Where standard input, output or error are closed (`>&-`, services): the null device, or the next file that is opened would take
    their number, and whatever a library prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - as long as the process lives


@contextmanager
def redacted_streams(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Whatever is printed while the block runs, tracebacks among it, has no credentials, and no character that the terminal lacks."""
    before = sys.stdout, sys.stderr
    # stderr also carries the progress bar, which moves the cursor: what is said there is made printable by `say`.
    sys.stdout, sys.stderr = _Redacted(before[0], options, made_printable=True), _Redacted(before[1], options)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Redacted):
                stream.flush()
        sys.stdout, sys.stderr = before


def what_was_lost() -> OSError | None:
    """Why standard output does not hold all that was printed within `redacted_streams`; None where it does."""
    sys.stdout.flush()
    return getattr(sys.stdout, "lost", None)


class _Redacted(io.TextIOBase):
    """A text stream that redacts what is written to it, and writes `?` for what its encoding does not have.

    `lost`: why the rest is not written any more.
    """

    def __init__(self, stream: TextIO, options: Mapping[str, str] | None, *, made_printable: bool = False) -> None:
        self._stream, self._options, self._made_printable = stream, options, made_printable
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        written = redact(text, self._options)
        if self._made_printable:
            written = printable(written)
        written = written.encode(self.encoding, "replace").decode(self.encoding)
        with self._kept():
            self._stream.write(written)
        return len(text)

    def flush(self) -> None:
        with self._kept():
            self._stream.flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What waits in the buffer would fail again when the interpreter ends, with 120.
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
            self._stream, self.lost = open(os.devnull, "w"), error  # noqa: PTH123, SIM115 - as long as the process lives
        else:
            self.lost = self.lost or getattr(self._stream, "lost", None)

    def isatty(self) -> bool:
        return not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True
