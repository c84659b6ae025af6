"""URIs → file systems, retries, redaction: the ground under every room that reads or writes."""

from btc_ray.storage.files import (
    Options,
    StorageError,
    absolute,
    arrow_filesystem,
    exists,
    filesystem,
    is_local,
    join,
    list_files,
    local_path,
    move,
    read_bytes,
    remove_tree,
    scheme,
    write_bytes,
)
from btc_ray.storage.place import Place
from btc_ray.storage.redact import redact

__all__ = [
    "Options",
    "Place",
    "StorageError",
    "absolute",
    "arrow_filesystem",
    "exists",
    "filesystem",
    "is_local",
    "join",
    "list_files",
    "local_path",
    "move",
    "read_bytes",
    "redact",
    "remove_tree",
    "scheme",
    "write_bytes",
]
