"""Tables as Parquet files, whole or written piece by piece, and those of others read without what could run code."""

import contextlib
import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.storage.retries import retrying

if TYPE_CHECKING:
    from btc_ray.storage.place import Place


def to_bytes(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def row_count(place: "Place") -> int:
    """The rows of a Parquet file, by its footer. Raises pyarrow.ArrowInvalid and OSError for one that cannot be read."""
    filesystem, path = place.arrow()
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        return int(file.metadata.num_rows)


@contextlib.contextmanager
def table_file(place: "Place", schema: pa.Schema) -> Iterator[Callable[[Mapping[str, Sequence[Any]]], None]]:
    """A function that takes rows as columns, by the names of `schema`; the Parquet file is there, whole, when the block ends well.

    Memory holds one piece. Raises OSError where nothing can be written.
    """
    target = place.path() if place.is_local else None
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp") if target else None
    if temporary:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        sink: Any = temporary.open("wb")
    else:
        fs, path = place.filesystem()
        sink = retrying(lambda: fs.open(path, "wb"))
    writer = pq.ParquetWriter(sink, schema, compression="zstd")

    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        writer.write_table(pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema))

    try:
        yield write
        writer.close()
        sink.close()
        if temporary and target:
            temporary.replace(target)
    except BaseException:
        with contextlib.suppress(Exception):
            writer.close()  # its own clean-up, later, would write to the closed file
            if temporary:
                sink.close()
                temporary.unlink(missing_ok=True)
            else:
                sink.discard()  # an upload begun and not finished
        raise


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
