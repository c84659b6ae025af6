"""Images that earlier runs scored: what is left out of tonight's listing, known by URI and version without being read, or by content.

An image is known by 16 bytes of a digest and 4 of its run's number in sorted arrays: 10 million take 200 MB. What loading and looking
up costs: benchmarks/known.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from btc_ray.archive import names
from btc_ray.archive.entries import Entry, Skipped
from btc_ray.archive.manifest import VERSION
from btc_ray.archive.reader import ByteReader
from btc_ray.progress import say
from btc_ray.scoring.earlier import EarlierRun, EarlierRuns
from btc_ray.scoring.finish import IncompleteError
from btc_ray.scoring.folder import RunFolder
from btc_ray.settings.score import KnownBy
from btc_ray.storage import Options
from btc_ray.storage.redact import public_uri

KNOWN_SCHEMA = pa.schema(
    [pa.field("uri", pa.string(), nullable=False), pa.field("run", pa.string(), nullable=False), VERSION]
)  # of RUN/known.parquet
_AT_ONCE = 10_000  # entries looked up together
_TAKEN = ("uri", "size", "container", "offset", "packed_size", "packing", "frame")


class KnownImages:
    """Digests and the number of the run that scored each.

    Args:
        keys: uint64 (n, 2), the halves of 16 bytes; of equal ones the first counts.
        runs: int32 (n,), the place of the run in a list of runs.
    """

    def __init__(self, keys: np.ndarray, runs: np.ndarray) -> None:
        order = np.argsort(keys[:, 0], kind="stable")
        self._high, self._low, self._runs = keys[order, 0], keys[order, 1], runs[order]

    def __len__(self) -> int:
        return len(self._high)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """For uint64 (m, 2) the number of the run that knows each, int32 (m,), -1 where none does.

        Of two images that share their first 8 bytes, one in 10^12 pairs of runs of 10 million, the second is not found and scored again.
        """
        if not len(self):
            return np.full(len(keys), -1, np.int32)
        at = np.minimum(np.searchsorted(self._high, keys[:, 0]), len(self) - 1)
        same = (self._high[at] == keys[:, 0]) & (self._low[at] == keys[:, 1])
        return np.where(same, self._runs[at], -1)


def listing_keys(uris: Sequence[str], offsets: Sequence[int | None], versions: Sequence[str]) -> np.ndarray:
    """uint64 (n, 2) of files, or of members at their offsets, in these versions; addresses without their signatures, which are new every
    night."""
    digests = [
        blake2b(f"{public_uri(uri)}\0{offset}\0{version}".encode(), digest_size=16).digest()
        for uri, offset, version in zip(uris, offsets, versions, strict=True)
    ]
    return _halves(digests)


def content_keys(digests: Sequence[str]) -> np.ndarray:
    """uint64 (n, 2) of sha256 sums in hex, as `content_sha256` has them."""
    return _halves([bytes.fromhex(digest[:32]) for digest in digests])


def _halves(digests: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known before a listing; `found` and `no_version` count while it is filtered.

    Attributes:
        by: how images are known.
        runs: whose images they are.
        not_used: by reason, how many of the runs that were named give nothing.
    """

    by: KnownBy
    runs: list[EarlierRun]
    not_used: dict[str, int]
    images: KnownImages
    found: Counter[int] = field(default_factory=Counter)  # files by the number of their run
    no_version: Counter[str] = field(default_factory=Counter)  # files that a listing cannot tell the version of

    @property
    def private(self) -> bool:
        """Whether a run that files were known by keeps its paths private."""
        return any(self.runs[number].state.private for number in self.found)

    @property
    def files(self) -> int:
        """How many of the listing were known, so far; a file of several slices is one."""
        return self.found.total()

    def to_dict(self) -> dict[str, Any]:
        """As `run.json` holds it."""
        return {
            "by": self.by,
            "files": self.files,
            "runs": {run.name: self.found[number] for number, run in enumerate(self.runs) if self.found[number]},
            "not_used": self.not_used,
            "no_version": self.no_version.total(),
        }

    def tell(self) -> None:
        """Say how many were known, from which runs, and what could not be told."""
        runs = sum(count > 0 for count in self.found.values())
        say(f"Known: {self.files:,} files, scored by {runs:,} of {len(self.runs):,} earlier runs; they are not scored again.")
        if count := self.no_version.total():
            say(f"Warning: of {count:,} files the listing tells no version (size and time or ETag): they are scored again.")

    def new(
        self,
        found: Iterable[Entry | Skipped],
        *,
        options: Options = None,
        known: Callable[[Mapping[str, Sequence[Any]]], None] = lambda columns: None,
    ) -> Iterator[Entry | Skipped]:
        """What a listing found, in its order, without the files that are known; those go to `known`, as columns of KNOWN_SCHEMA.

        By content every file is read here, by `archive.reader`; one that cannot be read is not known.
        """
        reader, shown = ByteReader(options), [run.name for run in self.runs]
        items = iter(found)
        while some := list(islice(items, _AT_ONCE)):
            numbers = iter(self._numbers([item for item in some if isinstance(item, Entry)], reader))
            columns: dict[str, list[Any]] = {field.name: [] for field in KNOWN_SCHEMA}
            for item in some:
                number = next(numbers) if isinstance(item, Entry) else -1
                if number < 0 or not isinstance(item, Entry):
                    yield item
                    continue
                self.found[number] += 1
                for name, value in (("uri", public_uri(item.uri)), ("run", shown[number]), ("version", item.version)):
                    columns[name].append(value)
            if columns["uri"]:
                known(columns)

    def _numbers(self, entries: Sequence[Entry], reader: ByteReader) -> list[int]:
        """The run that knows each entry, -1 where none does."""
        numbers = np.full(len(entries), -1, np.int32)
        if self.by == "content":
            contents = reader.read_many({name: getattr(entry, name) for name in _TAKEN} for entry in entries)
            sums = [None if isinstance(data, Exception) else sha256(data).hexdigest() for data in contents]
            told = np.array([digest is not None for digest in sums], bool)
            keys = content_keys([digest for digest in sums if digest is not None])
        else:
            told = np.array([entry.version is not None for entry in entries], bool)
            self.no_version["files"] += sum(entry.version is None and entry.problem_status is None for entry in entries)
            kept = entries if told.all() else [entry for entry in entries if entry.version is not None]
            keys = listing_keys(
                [entry.uri for entry in kept], [entry.offset for entry in kept], [str(entry.version) for entry in kept]
            )
        numbers[told] = self.images.find(keys)
        found: list[int] = numbers.tolist()
        return found


def open_known(earlier: EarlierRuns, *, by: KnownBy) -> Known:
    """Load what the runs scored `ok`. A file of which a run scored one slice and not another is not known.

    Says aloud which runs give nothing and why. Raises IncompleteError where a complete run has lost files.
    """
    not_used = {reason: len(some) for reason, some in earlier.left_out.items()}
    keys: list[np.ndarray] = []
    used: list[EarlierRun] = []
    for run in earlier.runs:
        found = _listed(run) if by == "listing" else _contents(run)
        if isinstance(found, str):
            not_used[found] = not_used.get(found, 0) + 1
            continue
        keys.append(found)
        used.append(run)
    for reason, count in not_used.items():
        say(f"Warning: {count:,} of the runs of --known {'is' if count == 1 else 'are'} not used: {reason}.")
    numbers = np.repeat(np.arange(len(used), dtype=np.int32), [len(some) for some in keys])
    joined = np.concatenate(keys) if keys else _halves([])
    keys.clear()
    return Known(by=by, runs=used, not_used=not_used, images=KnownImages(joined, numbers))


_NO_MANIFEST = "their manifest is not there (RUN/private stayed behind?); give --known-by content"
_NO_VERSIONS = "their manifest has no versions, as it was written before 0.2.0; give --known-by content, or score once more"


def _listed(run: EarlierRun) -> np.ndarray | str:
    """Keys of the files in a run's manifest that are ok, or why there are none."""
    folder = RunFolder(run.place)
    parts = folder.manifest.files(".parquet")
    if not parts:
        return _halves([]) if run.state.manifest and not run.state.manifest.rows else _NO_MANIFEST
    ok = _ok(run, folder)
    good, bad = [], []
    for part in parts:
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            if VERSION.name not in file.schema_arrow.names:
                return _NO_VERSIONS
            for batch in file.iter_batches(columns=["row_id", "uri", "offset", "frame", VERSION.name]):
                table = pa.table(batch).filter(batch["version"].is_valid())
                uris = table["uri"].to_pylist()
                if table["frame"].null_count < len(table):
                    frames = table["frame"].to_pylist()
                    uris = [uri if at is None else names.file_of(uri) for uri, at in zip(uris, frames, strict=True)]
                keys = listing_keys(uris, table["offset"].to_pylist(), table["version"].to_pylist())
                fine = ok[np.asarray(table["row_id"])]
                good.append(keys[fine])
                bad.append(keys[~fine])
    return _without(good, bad)


def _contents(run: EarlierRun) -> np.ndarray | str:
    """Keys of the contents that a run scored ok."""
    good, bad = [], []
    for batch in RunFolder(run.place).score_batches(["status", "content_sha256"]):
        table = pa.table(batch).filter(batch["content_sha256"].is_valid())
        keys = content_keys(table["content_sha256"].to_pylist())
        fine = np.asarray(pc.equal(table["status"], "ok"))
        good.append(keys[fine])
        bad.append(keys[~fine])
    return _without(good, bad)


def _ok(run: EarlierRun, folder: RunFolder) -> np.ndarray:
    """Whether each row of a run is ok: bool, by row_id."""
    assert run.state.manifest is not None, run.place
    ok = np.zeros(run.state.manifest.rows, bool)
    try:
        for batch in folder.score_batches(["row_id", "status"]):
            ok[np.asarray(batch["row_id"])] = np.asarray(pc.equal(batch["status"], "ok"))
    except (IndexError, pa.ArrowInvalid) as error:
        raise IncompleteError(f"{run.name} is not what its run.json says ({error}); leave it out of --known.") from error
    return ok


def _without(good: list[np.ndarray], bad: list[np.ndarray]) -> np.ndarray:
    """The good keys that are not bad as well, those of one file next to each other once."""
    keys = np.concatenate(good) if good else _halves([])
    good.clear()
    if sum(map(len, bad)):
        spoilt = np.concatenate(bad)
        keys = keys[KnownImages(spoilt, np.zeros(len(spoilt), np.int32)).find(keys) < 0]
    if len(keys):
        keys = keys[np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])]
    return keys
