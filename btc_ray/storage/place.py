"""A place where something stands: its URI, and the options that its file system is opened with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btc_ray.storage import files
from btc_ray.storage.redact import redact, redact_values

if TYPE_CHECKING:
    import pyarrow as pa


def json_bytes(record: Mapping[str, Any], *, indent: int, ascii_only: bool) -> bytes:
    """A record as `Place.write_json` writes it."""
    text = json.dumps(redact_values(dict(record)), indent=indent, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")


@dataclass(frozen=True)
class Place:
    """A file or folder anywhere, local or remote.

    Attributes:
        uri: a path or URI; nothing in it is escaped.
        options: of its file system, as fsspec names them; they may be credentials and are never shown.
    """

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __truediv__(self, name: str) -> "Place":
        """What is called `name` below this place; `name` may hold slashes."""
        return self.at(files.join(self.uri, name))

    def __str__(self) -> str:
        """The URI without credentials: for messages."""
        return redact(self.uri)

    def at(self, uri: str) -> "Place":
        """Another URI, opened with the same options."""
        return Place(uri, self.options)

    def beside(self, name: str) -> "Place":
        """What is called `name` in the folder that this place is in."""
        parent, slash, _ = self.uri.rstrip("/").rpartition("/")
        return self.at(f"{parent}{slash}{name}" if slash else name)

    def absolute(self) -> "Place":
        """The same place whatever folder a command is run from."""
        return self.at(files.absolute(self.uri))

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rstrip("/").rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's file system."""
        return files.is_local(self.uri)

    def path(self) -> Path:
        """Its path on this machine. Raises StorageError where it is elsewhere."""
        return Path(files.local_path(self.uri))

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return files.exists(self.uri, self.options)

    def read(self) -> bytes:
        """The whole file. Raises OSError (FileNotFoundError where there is none) and StorageError."""
        return files.read_bytes(self.uri, self.options)

    def write(self, data: bytes) -> None:
        """Write a whole file, making its folder: a reader sees the old file or the new one. Raises OSError and StorageError."""
        files.write_bytes(self.uri, data, self.options)

    def write_json(self, record: Mapping[str, Any], *, indent: int = 1, ascii_only: bool = False) -> None:
        """Write a record as one JSON document without credentials, as `write` does. Raises ValueError for numbers that JSON lacks.

        `ascii_only` keeps file names that are no UTF-8, as escapes.
        """
        self.write(json_bytes(record, indent=indent, ascii_only=ascii_only))

    def files(self, suffix: str = "") -> list["Place"]:
        """The files directly in this folder whose names end in `suffix`, sorted by name. No folder: an empty list."""
        return [self.at(uri) for uri in files.list_files(self.uri, suffix, self.options)]

    def remove(self) -> None:
        """Delete the file, or the folder and everything in it; nothing there is fine."""
        files.remove_tree(self.uri, self.options)

    def move(self, target: "Place") -> None:
        """Give a file another name in the same file system, in place of what stood there."""
        files.move(self.uri, target.uri, self.options)

    def filesystem(self) -> tuple[Any, str]:
        """The fsspec file system and the path inside it. Raises StorageError."""
        return files.filesystem(self.uri, self.options)

    def arrow(self) -> tuple[Any, str]:
        """The `pyarrow.fs.FileSystem` and the path inside it, as pyarrow and Ray Data take them. Raises StorageError."""
        return files.arrow_filesystem(self.uri, self.options)

    def read_table(self) -> "pa.Table":
        """The table of one Parquet file, its columns as they are stored. Raises what `read` raises, and pyarrow.ArrowInvalid."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from btc_ray.storage.tables import PlainParquet

        data = self.read()
        return pq.read_table(pa.PythonFile(PlainParquet(lambda start, end: data[start:end], len(data)), mode="r"))

    def write_table(self, table: "pa.Table") -> None:
        """Write one Parquet file, never seen half-written."""
        from btc_ray.storage.tables import to_bytes

        self.write(to_bytes(table))
