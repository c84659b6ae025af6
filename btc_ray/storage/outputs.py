"""Output folders: what a job writes goes into a new or empty one, or over its own files."""

from fnmatch import fnmatch

from btc_ray.errors import RefusedError
from btc_ray.storage.place import Place


class OutputError(RefusedError):
    """An output folder that holds something already."""


def check_output(output: Place, *, ours: tuple[str, ...] = ()) -> None:
    """A new or empty folder, or one with nothing but the files `ours` (patterns) of a job that goes on or is made anew in its place:
    nothing of a user's is replaced. Raises OutputError."""
    filesystem, path = output.filesystem()
    if not filesystem.exists(path):
        return
    found = filesystem.ls(path, detail=False) if filesystem.isdir(path) else [path]
    names = sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in found)
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in ours)]:
        raise OutputError(f"{output} is not empty (it holds {foreign[0]}). Give --output a new folder.")
