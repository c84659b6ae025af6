"""One driver a run folder: a lease that others wait for, that ends with its driver, and that a driver who slept finds gone."""

import itertools
from collections.abc import Iterator

import pytest

from btc_ray.errors import REFUSED, RefusedError
from btc_ray.scoring.lease import Clock, HeldLease, LeaseLostError, take
from btc_ray.storage.conditional import ChangedError, ConditionalFile
from btc_ray.storage.place import Place
from tests.conftest import Bucket


class InMemory:
    """A file with the conditions of an object store."""

    def __init__(self) -> None:
        self._found: tuple[bytes, str] | None = None
        self._versions = map(str, itertools.count())

    def read(self) -> tuple[bytes, str] | None:
        return self._found

    def put(self, data: bytes, *, expected: str | None) -> str:
        if (self._found and self._found[1]) != expected:
            raise ChangedError("changed")
        self._found = data, next(self._versions)
        return self._found[1]


class Time:
    """A clock that goes on only where somebody sleeps; what is due happens meanwhile."""

    def __init__(self) -> None:
        self.at = 0.0
        self.lives: HeldLease | None = None
        self.clock = Clock(now=lambda: self.at, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        if self.lives is not None:
            self.lives.renew()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def file(request: pytest.FixtureRequest) -> Iterator[InMemory | ConditionalFile]:
    if request.param == "memory":
        yield InMemory()
    else:
        bucket: Bucket = request.getfixturevalue("bucket")
        yield ConditionalFile(Place(f"{bucket.uri}/run/lease.json", bucket.options))


def test_a_second_driver_is_refused_and_told_by_whom_and_since_when(file: InMemory, time: Time) -> None:
    time.lives = take(file, "RUN", seconds=60, clock=time.clock)
    with pytest.raises(RefusedError, match=r"RUN is being written .* \(process \d+\), since 20\d\d-.*, attempt 1") as refused:
        take(file, "RUN", seconds=60, clock=time.clock)
    assert refused.value.exit_code == REFUSED
    assert time.at < 60  # who lives is seen to within one renewal
    time.lives.check()


def test_a_dead_drivers_lease_ends_after_its_time(file: InMemory, time: Time) -> None:
    take(file, "RUN", seconds=60, clock=time.clock)
    assert take(file, "RUN", seconds=60, clock=time.clock).attempt == 2
    assert 60 < time.at < 90


def test_a_driver_that_ended_well_is_not_waited_for(file: InMemory, time: Time) -> None:
    take(file, "RUN", seconds=60, clock=time.clock).end()
    assert take(file, "RUN", seconds=60, clock=time.clock).attempt == 2
    assert time.at == 0


def test_a_driver_that_slept_finds_its_lease_gone(file: InMemory, time: Time) -> None:
    slept = take(file, "RUN", seconds=60, clock=time.clock)
    slept.check()
    take(file, "RUN", seconds=60, clock=time.clock)
    with pytest.raises(LeaseLostError, match=r"taken over by another btc-ray, .* \(attempt 2\)"):
        slept.check()
    with pytest.raises(LeaseLostError):
        slept.check()
    slept.end()  # and takes nothing from the other
    assert take(file, "RUN", seconds=60, clock=time.clock).attempt == 3


def test_a_driver_that_slept_goes_on_where_nobody_took_over(file: InMemory, time: Time) -> None:
    slept = take(file, "RUN", seconds=60, clock=time.clock)
    time.at += 3600
    slept.check()
    time.lives = slept
    with pytest.raises(RefusedError):
        take(file, "RUN", seconds=60, clock=time.clock)


def test_of_two_that_take_over_at_once_one_has_it(file: InMemory, time: Time) -> None:
    take(file, "RUN", seconds=60, clock=time.clock)
    both = []

    def sleep(seconds: float) -> None:
        time.at += seconds
        if time.at > 74 and not both:
            both.append(take(file, "RUN", seconds=60, clock=Clock(now=lambda: 2 * time.at, sleep=time.sleep)))

    with pytest.raises(RefusedError, match="attempt 2"):
        take(file, "RUN", seconds=60, clock=Clock(now=lambda: time.at, sleep=sleep))
    both[0].check()


def test_a_damaged_lease_is_told(file: InMemory, time: Time) -> None:
    file.put(b"{", expected=None)
    with pytest.raises(RefusedError, match=r"lease\.json is damaged"):
        take(file, "RUN", seconds=60, clock=time.clock)


def test_a_store_that_pays_no_heed_to_conditions_is_told(time: Time, capfd: pytest.CaptureFixture[str]) -> None:
    class Heedless(InMemory):
        def put(self, data: bytes, *, expected: str | None) -> str:
            return super().put(data, expected=self._found and self._found[1])

    take(Heedless(), "RUN", seconds=60, clock=time.clock).check()
    assert "ignores conditions" in capfd.readouterr().err


@pytest.mark.slow
def test_a_file_is_replaced_only_by_who_knows_what_stands_there(bucket: Bucket) -> None:
    file = ConditionalFile(Place(f"{bucket.uri}/a/b", bucket.options))
    assert file.read() is None
    first = file.put(b"1", expected=None)
    assert file.read() == (b"1", first)
    second = file.put(b"2", expected=first)
    for expected in (None, first):
        with pytest.raises(ChangedError):
            file.put(b"3", expected=expected)
    assert file.put(b"2", expected=first) == second  # its own answer was lost
