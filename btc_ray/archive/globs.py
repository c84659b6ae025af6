"""Patterns like `s3://bucket/2024-*/**/axial_*.jpg`, matched name by name while folders are walked, equal on every file system.

`*`, `?` and `[…]` stay within one name; a name that is exactly `**` stands for any number of folders, none included. Upper and
lower case differ.
"""

import fnmatch
import re
from dataclasses import dataclass

from btc_ray import storage

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """The names of a glob below its fixed part. A walk carries a state: the set of places in the pattern that it may be at."""

    parts: tuple[str, ...]

    def start(self) -> frozenset[int]:
        return self._closed({0})

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        """The state one name further down; empty where nothing below can match."""
        onward = set()
        for place in state:
            if place == len(self.parts):
                continue
            if self.parts[place] == "**":
                onward.add(place)
            elif fnmatch.fnmatchcase(name, self.parts[place]):
                onward.add(place + 1)
        return self._closed(onward)

    def matches(self, state: frozenset[int]) -> bool:
        return len(self.parts) in state

    def _closed(self, places: set[int]) -> frozenset[int]:
        for place in sorted(places):
            while place < len(self.parts) and self.parts[place] == "**":
                place += 1
                places.add(place)
        return frozenset(places)


def is_glob(uri: str) -> bool:
    """Whether the URI may be a pattern. In http(s) `?` begins a query, so those never are."""
    return storage.scheme(uri) not in ("http", "https") and bool(_MAGIC.search(uri))


def split_glob(uri: str) -> tuple[str, Pattern]:
    """The folder before the first name with a wildcard, and the pattern below it. `uri` is absolute."""
    head, separator, rest = uri.partition("://")
    prefix, path = (head + separator, rest) if separator else ("", uri)
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    folder = prefix + "/".join(parts[:first])
    return folder or "/", Pattern(tuple(part for part in parts[first:] if part))
