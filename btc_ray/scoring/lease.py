"""One run folder, one driver, on an object store too: a lease that is taken and renewed by conditional PUTs.

No clock of another machine is trusted: who finds a lease watches it, and takes over where nobody renewed it for as long as it says.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Protocol

import msgspec

from btc_ray.errors import RefusedError
from btc_ray.progress import say
from btc_ray.storage.conditional import ChangedError

FILE = "lease.json"
_RENEWALS = 3  # in the time that a lease lasts: two may fail
_LOOKS = 12  # at another's lease in the time that it lasts
_NO_ETAG = '"0"'  # of no file
_GRACE = 1.25  # a driver trusts its lease for its time, another waits a quarter longer: requests under way end meanwhile


class LeaseLostError(RefusedError):
    """Another driver has taken over: this one stops, and what it did since does not count."""


class File(Protocol):
    """What a lease stands in: `storage.conditional.ConditionalFile`."""

    def read(self) -> tuple[bytes, str] | None: ...

    def put(self, data: bytes, *, expected: str | None) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Who writes a run folder.

    Attributes:
        attempt: the number of this driver among those of the folder, from 1.
        holder: its machine and process, for a person.
        begun, renewed, ended: times by the holder's clock, for a person; `ended` where it let go.
        renewals: how often it was renewed, so that no two are the same bytes.
        seconds: without renewal it ends after this time.
    """

    attempt: int
    holder: str
    begun: str
    renewed: str
    renewals: int = 0
    seconds: float
    ended: str | None = None

    def encoded(self) -> bytes:
        """As the file holds it."""
        return msgspec.json.format(msgspec.json.encode(asdict(self)), indent=1) + b"\n"


def _boot_clock() -> float:
    """Seconds that go on while the process is stopped and, where the system has such a clock, while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How time passes; tests have another."""

    now: Callable[[], float] = _boot_clock
    sleep: Callable[[float], None] = time.sleep


def take(file: File, what: str, *, seconds: float, clock: Clock | None = None) -> "HeldLease":
    """Take the lease of the run folder `what`; another's is watched first, for `_GRACE` times its seconds at most.

    Raises RefusedError, saying by whom and since when, where another driver holds it and lives.
    """
    clock = clock or Clock()
    found = file.read()
    before, version = (None, None) if found is None else (_decoded(found[0], what), found[1])
    if before is not None and before.ended is None:
        say(f"{what} is held by {before.holder} since {before.begun}; waiting whether it lives …")
        watched_from = clock.now()
        while before.ended is None and clock.now() - watched_from < _GRACE * before.seconds:
            clock.sleep(before.seconds / _LOOKS)
            found = file.read()
            if found is None:
                raise RefusedError(
                    f"the lease of {what} was removed just now. Run the command again once no other btc-ray writes there."
                )
            before = _decoded(found[0], what)
            if found[1] != version and before.ended is None:
                raise _refused(before, what)
            version = found[1]
        if before.ended is None:
            say(f"Nobody renewed that lease for {_GRACE * before.seconds:.0f} s: taking over.")
    now = _now()
    lease = Lease(
        attempt=(before.attempt if before else 0) + 1,
        holder=f"{socket.gethostname()} (process {os.getpid()})",
        begun=now,
        renewed=now,
        seconds=seconds,
    )
    try:
        version = file.put(lease.encoded(), expected=version)
    except ChangedError as error:
        found = file.read()
        raise _refused(_decoded(found[0], what) if found else lease, what) from error
    held = HeldLease(file, lease, version, what, clock)
    if not held.is_guarded():
        say(f"Warning: the store of {what} ignores conditions of a PUT: nothing keeps a second btc-ray from writing there.")
    return held


class HeldLease:
    """A lease that this driver took."""

    def __init__(self, file: File, lease: Lease, version: str, what: str, clock: Clock) -> None:
        self._file, self._lease, self._version, self._what, self._clock = file, lease, version, what, clock
        self._renewed_at = clock.now()
        self._lost: LeaseLostError | None = None
        self._lock = Lock()

    @property
    def attempt(self) -> int:
        """The number of this driver among those of the folder, from 1."""
        return self._lease.attempt

    def is_guarded(self) -> bool:
        """Whether the store refuses a PUT whose condition does not hold; some take `If-Match` and pay no heed to it."""
        try:
            self._version = self._file.put(replace(self._lease, renewals=-1).encoded(), expected=_NO_ETAG)
        except ChangedError:
            return True
        return False

    def check(self) -> None:
        """Before anything of the run is written. Raises LeaseLostError where another driver has taken over.

        Asks the store only where the lease was not renewed in its time: this process slept, or the store was down.
        """
        if self._lost is not None:
            raise self._lost
        if self._clock.now() - self._renewed_at > self._lease.seconds:
            self.renew()

    def renew(self) -> None:
        """Raises LeaseLostError, and OSError where the store does not answer."""
        with self._lock:
            asked_at = self._clock.now()
            lease = replace(self._lease, renewed=_now(), renewals=self._lease.renewals + 1)
            self._put(lease)
            self._renewed_at = asked_at

    def end(self) -> None:
        """Let go: the next driver need not wait. What keeps it from being said is left to time."""
        with self._lock, suppress(LeaseLostError, OSError):
            self._put(replace(self._lease, ended=_now()))

    def _put(self, lease: Lease) -> None:
        try:
            self._version = self._file.put(lease.encoded(), expected=self._version)
        except ChangedError as error:
            self._lost = LeaseLostError(
                f"{self._what} was taken over by another btc-ray{self._by()}. This one stops; what it did since does not count."
            )
            raise self._lost from error
        self._lease = lease

    def _by(self) -> str:
        with suppress(OSError, RefusedError):
            if found := self._file.read():
                other = _decoded(found[0], self._what)
                return f", {other.holder}, at {other.begun} (attempt {other.attempt})"
        return ""

    @contextmanager
    def kept(self) -> Iterator["HeldLease"]:
        """Renew it in the background while the block runs, and let go at its end."""
        done = Event()

        def renew() -> None:
            while not done.wait(self._lease.seconds / _RENEWALS):
                try:
                    self.renew()
                except LeaseLostError:
                    return  # `check` says so to who is about to write
                except OSError:
                    continue  # the store is down: `check` asks again

        thread = Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
            self.end()


def _refused(other: Lease, what: str) -> RefusedError:
    return RefusedError(
        f"{what} is being written by another btc-ray: {other.holder}, since {other.begun}, attempt {other.attempt}, last heard of at "
        f"{other.renewed}. Wait for it, or use another --output."
    )


def _decoded(data: bytes, what: str) -> Lease:
    try:
        return msgspec.json.decode(data, type=Lease)
    except msgspec.MsgspecError as error:
        raise RefusedError(f"{what}/{FILE} is damaged ({error}). Remove it where no other btc-ray writes that folder.") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
