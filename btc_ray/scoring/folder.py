"""The run folder: who may write it, and the parts that are staged before they are published.

`"complete": true` in `run.json` is the commit mark: until it stands there, `scores/` is not to be read. On an object store every driver
stages in a folder of its own, and `run.json` is replaced only by who read it: what a driver writes after another took over is not taken.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import storage
from btc_ray.archive.manifest import ROWS_PER_PART
from btc_ray.errors import RefusedError
from btc_ray.progress import say
from btc_ray.scoring.lease import FILE as LEASE
from btc_ray.scoring.lease import HeldLease, take
from btc_ray.scoring.state import FILE, RunState, read_state
from btc_ray.storage import Place
from btc_ray.storage.conditional import ChangedError, ConditionalFile, is_conditional
from btc_ray.studies.keys import write_private

REVIEW = ("review.html", "review.json", "worklist.parquet")  # what `btc-ray review` adds
EXAMS_PAGE = "exams.html"  # and where there are exams
ANSWERS = "answers.json"  # what `btc-ray evaluate --run` adds
RULE = "rule.json"  # and with --fit-rule
PRIVATE_MARK = "README"
STAGED = ("staged-here", "staged-ray")
WORK = "_work"  # everything that is gone once the run is complete


PRIVATE_NOTE = """Whose the scored slices are: paths, identifiers, and the key that pseudonyms were made with. Do not share this folder.
The rest of the run holds pseudonyms. It is pseudonymised, not anonymous: pictures of heads show faces.
"""


class RunFolder:
    """One run folder, local or remote."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.private = place / "private"  # whose the slices are; everything else may be shared
        self.series_known = self.private / "series.parquet"
        self.series = place / "series"
        self.exams = place / "exams"
        self.is_private = (self.private / PRIVATE_MARK).exists()
        self.scores = place / "scores"
        self.work = place / WORK
        self.todo = self.work / "todo"  # the rows to score again of --retry-failed
        self._stage_in(self.work)
        self.attempt = 0  # the number of this driver among those of the folder, where there is a lease
        self._lease: HeldLease | None = None
        self._state_version: str | None = None  # the ETag of run.json as this driver last saw it

    def _stage_in(self, place: Place) -> None:
        self.listed = place / "listed"  # what the inputs hold, before it is looked into
        self.listed_apart = place / "listed-apart"  # the same in the making, piece by piece on workers
        self.listed_skipped = place / "listed-skipped.parquet"
        self.listed_known = place / "listed-known.parquet"
        self.staged_here = place / "staged-here"  # parts of the in-process path
        self.staged_ray = place / "staged-ray"  # parts that Ray Data wrote
        self.checkpoint = place / "checkpoint"  # Ray Data's own record of what it wrote
        self.blocks = place / "blocks"  # what is left to do, as Ray Data reads it
        self.finished = place / "finished"  # whole and in order, about to be published

    def _attempt(self, number: int) -> Place:
        return self.work / f"attempt-{number:05d}" if number else self.work

    def inherited(self, state: RunState) -> list[Place]:
        """The parts that drivers before this one staged, of the run's present generation; asked for once, later ones are not taken."""
        places = [self._attempt(number) / name for number in range(state.since_attempt, self.attempt) for name in STAGED]
        return [part for place in places for part in place.files(".parquet")]

    @property
    def manifest(self) -> Place:
        """The list of what is scored."""
        return (self.private if self.is_private else self.place) / "manifest"

    @property
    def skipped(self) -> Place:
        """What the listing met and made no row of."""
        return (self.private if self.is_private else self.place) / "skipped.parquet"

    @property
    def known(self) -> Place:
        """What the listing met and earlier runs had scored."""
        return (self.private if self.is_private else self.place) / "known.parquet"

    def keep_private(self) -> None:
        """From now on paths stand in `private` only."""
        write_private(self.private / PRIVATE_MARK, PRIVATE_NOTE.encode())
        self.is_private = True

    def read_state(self) -> RunState | None:
        """`run.json`, or None in a new or empty folder. Raises RefusedError where the folder holds something else."""
        if (self.place / FILE).exists():
            if self._lease is not None and (found := ConditionalFile(self.place / FILE).read()):
                self._state_version = found[1]  # before it is read: what comes between the two is refused when it is written
            return read_state(self.place)
        filesystem, path = self.place.filesystem()
        listed = filesystem.ls(path, detail=False) if filesystem.isdir(path) else []
        names = [str(entry).rstrip("/").rpartition("/")[2] for entry in listed]
        # A kill while the first run.json is written leaves its temporary file, and nothing else of ours.
        foreign = [
            name for name in names if name not in (WORK, LEASE) and not (name.startswith(f".{FILE}.") and name.endswith(".tmp"))
        ]
        if foreign:
            raise RefusedError(f"{self.place} is not empty and not a run folder (it holds {foreign[0]}). Use another --output.")
        return None

    def check(self) -> None:
        """Before anything is written. Raises LeaseLostError where another driver took over."""
        if self._lease is not None:
            self._lease.check()

    def write_state(self, state: RunState) -> RunState:
        """Replace `run.json`, on an object store only where it is what this driver knows; returns the state. Raises LeaseLostError."""
        self.check()
        if self._lease is None:
            return state.write(self.place)
        state = state.changed(attempt=self.attempt)
        try:
            self._state_version = ConditionalFile(self.place / FILE).put(state.encoded(), expected=self._state_version)
        except ChangedError as error:
            self._lease.renew()  # says who has it
            raise RefusedError(
                f"{self.place / FILE} was changed by something else than a btc-ray driver. Use another --output."
            ) from error
        return state

    @contextmanager
    def locked(self, *, lease_s: float) -> Iterator[None]:
        """Only one process writes a run folder at a time: by a lock on this machine, by a lease on S3. Raises RefusedError.

        `lease_s`: after how many seconds the lease of a driver that died ends.
        """
        if not self.place.is_local:
            if not is_conditional(self.place):
                say(f"{self.place} is in a store without a lease: nothing keeps a second btc-ray from writing there.")
                yield
                return
            self.read_state()  # refuses what is no run folder before anything is written there
            with take(ConditionalFile(self.place / LEASE), str(self.place), seconds=lease_s).kept() as self._lease:
                self.attempt = self._lease.attempt
                self.is_private = (self.private / PRIVATE_MARK).exists()  # who wrote while this one waited may have made it so
                self._stage_in(self._attempt(self.attempt))
                try:
                    yield
                finally:
                    self._lease = None
            return
        import fcntl

        if self.place.path().exists() and not self.place.path().is_dir():
            raise RefusedError(f"{self.place} is a file and no folder. Use another --output.")
        work = self.work.path()
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RefusedError(
                    f"another btc-ray is writing {self.place} right now. Wait for it, or use another --output."
                ) from error
            except OSError as error:  # Lustre without flock, NFS without its lock service
                say(
                    f"{self.place} is on a file system without locks ({error.strerror}): nothing keeps a second btc-ray from writing there."
                )
            try:
                yield
            finally:
                (work / "lock").unlink(missing_ok=True)
                with suppress(OSError):  # not empty: there is something to continue from
                    work.rmdir()

    def sweep(self) -> None:
        """Remove the temporary files and folders that killed writers left in a run folder on this machine, which nobody else writes now.

        What cannot be removed stays: the run is complete.
        """
        if not self.place.is_local:
            return
        for folder in (self.place, self.manifest, self.scores, self.series, self.exams, self.private):
            for file in folder.path().glob(".*.tmp") if folder.path().is_dir() else ():
                if re.fullmatch(r"\..+\.[0-9a-f]{12}\.tmp", file.name):
                    with suppress(OSError):
                        shutil.rmtree(file) if file.is_dir() else file.unlink()

    def score_parts(self) -> list[Place]:
        """The published files of scores, in order."""
        return self.scores.files(".parquet")

    def score_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The published scores, or some of their columns, at most 65,536 rows at a time."""
        for part in self.score_parts():
            filesystem, path = part.arrow()
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                yield from file.iter_batches(columns=None if columns is None else list(columns))

    def manifest_row(self, row_id: int) -> dict[str, Any]:
        """One row of the manifest."""
        return self.manifest_rows([row_id])[0]

    def manifest_rows(self, row_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the manifest in the order asked for; each part is read once."""
        found: dict[int, dict[str, Any]] = {}
        wanted = sorted(set(row_ids))
        for number, ids in groupby(wanted, key=lambda row_id: row_id // ROWS_PER_PART):
            filesystem, path = (self.manifest / f"part-{number:05d}.parquet").arrow()
            places = [row_id % ROWS_PER_PART for row_id in ids]
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                first = 0
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    here = [place - first for place in places if first <= place < first + rows]
                    if here:
                        found |= {row["row_id"]: row for row in file.read_row_group(group).take(here).to_pylist()}
                    first += rows
        return [found[row_id] for row_id in row_ids]

    def publish(self, names: Sequence[str]) -> None:
        """Move the finished parts into `scores/` and remove what was there before. Running it again after a kill is harmless."""
        for name in names:
            self.check()
            if (self.finished / name).exists():
                (self.finished / name).move(self.scores / name)
        for part in self.score_parts():
            if part.name not in names:
                self.check()
                part.remove()

    def clear_work(self) -> None:
        """Remove what a run stages, on an object store all of it; the lock stays while it is held."""
        if self.attempt:
            self.check()
            self.work.remove()
            return
        listed = (self.listed, self.listed_apart, self.listed_skipped, self.listed_known)
        for place in (*listed, self.staged_here, self.staged_ray, self.checkpoint, self.blocks, self.todo, self.finished):
            place.remove()


def same_inputs(inputs: Sequence[str]) -> list[str]:
    """Input URIs as the same text whatever folder the command is run from, and without the credentials that some URIs carry."""
    return [storage.redact(storage.absolute(uri)) for uri in inputs]
