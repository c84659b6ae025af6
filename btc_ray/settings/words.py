"""A job's command as another machine runs it: settings written out as flags, and which of its files must be within that
machine's reach."""

from collections.abc import Iterator
from dataclasses import MISSING, fields

from btc_ray.settings import Job

# Settings that name files or folders, or URIs of them.
_PLACES = (
    *("model", "input", "output", "data", "cache", "weights", "champion", "grid", "groups", "pseudonym_key", "external"),
    "known",
)
_NOT_PLACES = ("imagenet", "none")  # of --weights


def command_words(settings: Job) -> list[str]:
    """The flags that give `settings`, those at their defaults and the address left out."""
    words: list[str] = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name == "address" or (item.default is not MISSING and value == item.default):
            continue
        flag = item.name.replace("_", "-")
        match value:
            case bool():
                words.append(f"--{flag}" if value else f"--no-{flag}")
            case tuple():
                words += [f"--{flag}", *map(str, value)]
            case _:
                words += [f"--{flag}", str(value)]
    return words


def local_places(settings: Job) -> Iterator[tuple[str, str]]:
    """(flag, path) of everything in `settings` that is a path of a file system and no URI of a store; `file://` is taken off."""
    for name in _PLACES:
        value = getattr(settings, name, None) or ()
        for place in (value,) if isinstance(value, str) else value:
            path = (place.partition("=")[2] if name == "external" else place).removeprefix("file://")  # NAME=DATA
            if "://" not in path and not (name == "weights" and path in _NOT_PLACES):
                yield f"--{name}", path
