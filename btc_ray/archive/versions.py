"""Which version of a file a listing saw, told without reading it: its size, and the store's ETag or the time of its last change.

As with rsync and make, a file that is changed while its size and time stay as they were is taken for the same.
"""

import os
from collections.abc import Mapping
from typing import Any

from btc_ray import storage
from btc_ray.storage.retries import retrying

# As the file systems of S3, Google, Azure, HTTP and memory name them; what tells of the content comes before what tells of the time.
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")


def local_version(about: os.stat_result) -> str:
    """Bytes and nanoseconds of a file of this machine."""
    return f"{about.st_size}-{about.st_mtime_ns}"


def remote_version(info: Mapping[str, Any]) -> str | None:
    """The same from what fsspec says of a file; None where its listing tells neither."""
    mark = next((info[name] for name in _MARKS if info.get(name)), None)
    if mark is None or info.get("size") is None:
        return None
    return f"{info['size']}-{str(mark).strip(chr(34))}"


def version_at(uri: str, options: storage.Options = None) -> str | None:
    """The version of one file, asked of its store; None where that cannot be told: opening it says why."""
    try:
        if storage.is_local(uri):
            return local_version(os.stat(storage.local_path(uri)))  # noqa: PTH116 — a string may hold bytes that are not UTF-8
        fs, path = storage.filesystem(uri, options)
        return remote_version(retrying(lambda: fs.info(path)))
    except Exception:  # noqa: BLE001 — each file system raises its own kinds
        return None
