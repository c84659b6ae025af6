"""Tables as the bytes of Parquet files, and Parquet files of others read without what could run code."""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq


def to_bytes(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


_ARROW_SCHEMA, _HIDDEN = b"ARROW:schema", b"ARROW:hidden"  # of equal lengths
_FOOTER_LIMIT = 64 << 20  # bytes
_MARK = b"PAR1"


class PlainParquet(io.RawIOBase):
    """A Parquet file from elsewhere, without the schema that Arrow keeps beside Parquet's own: columns come as what they are stored as.

    That schema may name extension types, and Ray registers some whose values, or whose very making, are pickled: opening such a file, or
    reading it, would run its code. Without it they are columns of bytes.

    Args:
        read: bytes from a start to an end (excluded).
        size: of the whole file, in bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._position = read, size, 0
        end = read(max(0, size - 8), size)
        length = int.from_bytes(end[:4], "little") if end[4:] == _MARK else 0
        self._footer_start = size - 8 - length if length <= min(_FOOTER_LIMIT, size - 8) else size
        self._footer = read(self._footer_start, size).replace(_ARROW_SCHEMA, _HIDDEN)
        if length > _FOOTER_LIMIT:
            raise pa.ArrowInvalid(f"its footer has more than {_FOOTER_LIMIT >> 20} MiB")

    def read(self, size: int = -1) -> bytes:
        """The next bytes: all that are left for a negative `size`."""
        start, end = self._position, self._size if size is None or size < 0 else min(self._position + size, self._size)
        data = self._read(start, min(end, self._footer_start)) if start < self._footer_start else b""
        if end > self._footer_start:
            data += self._footer[max(0, start - self._footer_start) : end - self._footer_start]
        self._position += len(data)
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self._position = position + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
