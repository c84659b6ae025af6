"""Bytes of one file from anywhere: by range (`open_ranges`), or in order from the start (`open_stream`).

Nothing here blocks on a FIFO or a device: what is not a regular file raises OSError.
"""

import contextlib
import errno
import io
import os
import stat
from typing import Any, BinaryIO, Protocol

from btc_ray import storage
from btc_ray.storage.retries import retrying

STREAM_BLOCK = 8 << 20  # bytes; one request per 8 MiB when a remote tar is read through


class Ranges(Protocol):
    """A file that is read at any place by many threads at once."""

    size: int

    def read(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (excluded); fewer where the file ends before. Raises OSError or what the file system raises."""
        ...


class LocalRanges:
    """`pread` on one descriptor, closed when the last user lets go: a cache may drop it while another thread still reads."""

    def __init__(self, path: str) -> None:
        self._descriptor = open_regular(path)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, end: int) -> bytes:
        end = min(end, self.size)  # a lying header must not make the kernel allocate what is not there
        pieces = []
        while start < end:
            piece = os.pread(self._descriptor, end - start, start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)


class RemoteRanges:
    """Range requests; each is tried again when the store throttles or resets."""

    def __init__(self, fs: Any, path: str, size: int | None = None) -> None:
        self._fs, self._path = fs, path
        if size is None:
            info = retrying(lambda: fs.info(path))
            if info.get("type") == "directory":
                raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file")
            size = info.get("size")
        if size is None:
            raise OSError(
                errno.ESPIPE, "the server does not say how long the file is, so its parts cannot be asked for; download it first"
            )
        self.size = int(size)

    def read(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        data: bytes = retrying(lambda: self._fs.cat_file(self._path, start=start, end=end))
        # A web server that ignores Range answers with the whole file.
        return data[start:end] if len(data) > end - start else data


def open_regular(path: str) -> int:
    """A descriptor of a regular local file. Raises OSError, for a FIFO, socket or device too, and never waits for one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file")
    raise OSError(errno.EINVAL, "not a regular file")


def open_ranges(uri: str, options: storage.Options = None, *, size: int | None = None) -> Ranges:
    """Raises OSError (or the file system's own error) where `uri` cannot be opened. A known `size` saves one request."""
    if storage.is_local(uri):
        return LocalRanges(storage.local_path(uri))
    fs, path = storage.filesystem(uri, options)
    return RemoteRanges(fs, path, size)


def open_stream(uri: str, options: storage.Options = None) -> BinaryIO:
    """A file object read mostly forward."""
    if storage.is_local(uri):
        return io.BufferedReader(io.FileIO(open_regular(storage.local_path(uri)), "rb"), 1 << 16)
    fs, path = storage.filesystem(uri, options)
    return retrying(lambda: fs.open(path, "rb", block_size=STREAM_BLOCK, cache_type="readahead"))
