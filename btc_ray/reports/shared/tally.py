"""Counting over the rows of a run, batch by batch: the values of a column, the folders of images, and why images were not scored."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = 5  # per cause
CAUSES_HELD = 500  # causes told apart in memory
_FOLDER = r"(?s)^(.*)(?:/|\\|::).*$"  # greedy: up to the last of them
_NUMBER = r"\d+(?:[.,]\d+)*"


def count(counter: Counter[str], column: pa.ChunkedArray | pa.Array, name: Callable[[str], str] = str) -> None:
    """Add the values of a column of texts, under what `name` makes of them; nulls are not counted."""
    for entry in pc.value_counts(column).to_pylist():
        if entry["values"] is not None:
            counter[name(entry["values"])] += entry["counts"]


def folders(uris: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """The folder that each image stands in: `/a/b` of `/a/b/c.png`, `archive.zip` of `archive.zip::a.png`."""
    return pc.replace_substring_regex(uris, pattern=_FOLDER, replacement=r"\1")


def without_numbers(text: str) -> str:
    """`text` with # for each number, so that texts that differ in nothing else are one."""
    return re.sub(_NUMBER, "#", text)


def cause(error: str, uri: str) -> str:
    """What went wrong, without the names and numbers in which two equal faults differ."""
    name = re.split(r"::|[/\\]", uri)[-1]
    for part in {uri, uri.partition("::")[0], name} - {""}:
        if len(part) > 3:  # a file called "a" must not take every a out of the message
            error = error.replace(part, "…")
    error = re.sub(r"(?:[\w.+-]+:/)?(?:/[^\s/:,;'\"()]+){2,}/?|[A-Za-z]:\\\S+", "…", error)  # other paths and URIs
    error = re.sub(r"\b(?:0x[0-9a-fA-F]+|(?=[a-f]*\d)[0-9a-f]{12,})\b", "#", error)  # addresses and hashes
    return without_numbers(error).strip() or "no reason was recorded"


@dataclass(kw_only=True)
class Causes:
    """Why images have no result; bounded, however many there are."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (status, cause) → images
    examples: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)  # → (uri, error)

    def add(self, status: str, error: str | None, uri: str) -> None:
        """One image, with the error as it was recorded."""
        key = (status, cause(error or "", uri))
        if key not in self.counts and len(self.counts) >= CAUSES_HELD:
            key = (status, "other causes")
        self.counts[key] += 1
        examples = self.examples.setdefault(key, [])
        if len(examples) < EXAMPLES:
            examples.append((uri, error or ""))

    def add_rows(self, bad: pa.Table) -> None:
        """Rows with `status`, `error` and `uri`."""
        for status, error, uri in zip(*(bad[name].to_pylist() for name in ("status", "error", "uri")), strict=True):
            self.add(status, error, uri)

    def listed(self) -> list[dict[str, Any]]:
        """`status`, `cause`, `images` and `examples`, the most frequent cause first."""
        return [
            {"status": key[0], "cause": key[1], "images": images, "examples": [uri for uri, _ in self.examples[key]]}
            for key, images in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        ]
