"""Many runs over one archive: the newest row of every image, what each night added to it, and what changed.

Images are matched by `uri`, of which 16 bytes of a digest are kept: about 60 bytes of memory a row while they are sorted. A uri that
stands in one run several times is one image, its last row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

COLUMNS = ("uri", "status", "label")


@dataclass(frozen=True, kw_only=True)
class Night:
    """What one run added. `new`: images that no run before had; `again`: those that one had, of which `status_changed` and, where both
    rows are ok, `label_changed` differ from the row before. `newest`: its rows that no later run replaced."""

    rows: int
    new: int
    again: int
    status_changed: int
    label_changed: int
    newest: int


@dataclass(frozen=True, kw_only=True)
class Nights:
    """`images` in all runs; the newest row of each by `status` and by `label`; `gone`: those that the last listing did not meet."""

    nights: list[Night]
    images: int
    status: dict[str, int]
    label: dict[str, int]
    gone: int


def nights(runs: Sequence[Iterable[pa.RecordBatch]], *, listed: Iterable[pa.RecordBatch]) -> Nights:
    """What became of the images of `runs` (batches with COLUMNS, the earliest run first).

    `listed` are batches with the `uri` of what the last listing met: the last run's rows, and what it knew.
    """
    words: list[str | None] = [None]
    keys, night, status, label = [], [], [], []
    for number, batches in enumerate(runs):
        for batch in batches:
            keys.append(_keys(batch["uri"].to_pylist()))
            night.append(np.full(len(batch), number, np.int32))
            status.append(_codes(batch["status"], words))
            label.append(_codes(batch["label"], words))
    if not keys:
        return Nights(
            nights=[Night(rows=0, new=0, again=0, status_changed=0, label_changed=0, newest=0) for _ in runs],
            images=0,
            status={},
            label={},
            gone=0,
        )
    key, of_night = np.concatenate(keys), np.concatenate(night)
    codes = np.stack([np.concatenate(status), np.concatenate(label)])
    order = np.lexsort((key[:, 1], key[:, 0]))  # stable: rows of one image stay in the order of the nights
    key, of_night, codes = key[order], of_night[order], codes[:, order]
    before = np.concatenate([[False], (key[1:] == key[:-1]).all(axis=1)])  # there is an earlier row of the image
    last = np.concatenate([~before[1:], [True]])
    again = before & (of_night != np.roll(of_night, 1))
    changed = again & (codes != np.roll(codes, 1, axis=1))
    both_ok = (codes[1] > 0) & (np.roll(codes[1], 1) > 0)
    count = len(runs)
    tallies = [
        np.bincount(of_night[chosen], minlength=count).tolist()
        for chosen in (np.ones(len(key), bool), ~before, again, changed[0], changed[1] & both_ok, last)
    ]
    names = ("rows", "new", "again", "status_changed", "label_changed", "newest")
    there = np.concatenate([_keys(batch["uri"].to_pylist()) for batch in listed] or [key[:0]])
    return Nights(
        nights=[Night(**dict(zip(names, values, strict=True))) for values in zip(*tallies, strict=True)],
        images=int(last.sum()),
        status=_tally(codes[0, last], words),
        label=_tally(codes[1, last], words),
        gone=int(last.sum()) - int(np.isin(_whole(key[last]), _whole(there)).sum()),
    )


def _keys(uris: Sequence[str]) -> np.ndarray:
    digests = [blake2b(uri.encode(), digest_size=16).digest() for uri in uris]
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def _whole(keys: np.ndarray) -> np.ndarray:
    """Both halves as one value that can be compared."""
    return np.ascontiguousarray(keys).view("S16").ravel()


def _codes(column: pa.Array, words: list[str | None]) -> np.ndarray:
    """int16 places in `words`, which grows; 0 for null."""
    encoded = column.dictionary_encode()
    places = {word: place for place, word in enumerate(words)}
    for word in encoded.dictionary.to_pylist():
        if word not in places:
            places[word] = len(words)
            words.append(word)
    found = np.array([0, *(places[word] for word in encoded.dictionary.to_pylist())], np.int16)
    return found[np.asarray(encoded.indices.fill_null(-1)) + 1]


def _tally(codes: np.ndarray, words: Sequence[str | None]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(words)).tolist()
    return {word: counts[place] for place, word in enumerate(words) if word is not None and counts[place]}
