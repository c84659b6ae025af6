"""A bundle that takes another's place: whoever opens it meanwhile gets the one or the other, whole, whenever the writer is stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore, Thread

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.model.bundle import Bundle, BundleError, check_bundle, read_bundle, read_split
from btc_ray.model.bundle.files import DESCRIPTION, SIGNATURE, SPLIT, VERSIONS, WEIGHTS, _part, weights_id
from btc_ray.model.bundle.publish import publish
from btc_ray.model.engines.choose import open_engine
from btc_ray.storage import Place
from btc_ray.storage.tables import to_bytes
from tests.conftest import Bucket, make_bundle


def small(bundle: Bundle, number: int) -> tuple[Bundle, dict[str, bytes]]:
    """A description with other weights and another split, whose files are no network but bytes: publishing does not look into them."""
    weights = b"weights %d" % number
    split = to_bytes(pa.table({"content_sha256": [str(number)]}))
    return replace(bundle, model_id=weights_id(weights), created=str(number)), {WEIGHTS: weights, SPLIT: split}


def opened(place: Place) -> tuple[str, bytes, list[str]]:
    """All that one opening comes to: the number that the description, the weights and the split were made with."""
    bundle = read_bundle(place)
    weights = _part(place, bundle, WEIGHTS, lambda data: weights_id(data) == bundle.model_id)
    split = read_split(place, bundle)
    assert weights is not None
    assert split is not None
    return bundle.created, weights, split["content_sha256"].to_pylist()


def is_whole(seen: tuple[str, bytes, list[str]]) -> bool:
    number, weights, split = seen
    return weights == f"weights {number}".encode() and split == [number]


@pytest.fixture
def described(model: Path) -> Bundle:
    return read_bundle(Place(str(model)))


def watched(place: Place, described: Bundle, times: int) -> list[tuple[str, bytes, list[str]]]:
    """What a reader saw that opened the bundle again and again while it was published `times` times; each publication waits until
    one opening was begun and ended since the last."""
    publish(place, *small(described, 0))
    seen: list[tuple[str, bytes, list[str]]] = []
    ended, round_done, failed = Event(), Semaphore(0), []

    def read() -> None:
        try:
            while not ended.is_set():
                seen.append(opened(place))
                round_done.release()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            round_done.release(1_000_000)

    reader = Thread(target=read)
    reader.start()
    for number in range(1, times + 1):
        publish(place, *small(described, number))
        while round_done.acquire(blocking=False) and not failed:
            pass
        round_done.acquire()
        round_done.acquire()
    ended.set()
    reader.join()
    assert not failed
    return seen


def test_a_reader_never_sees_a_mix_while_a_writer_publishes_fifty_times(described: Bundle, tmp_path: Path) -> None:
    seen = watched(Place(str(tmp_path / "model")), described, 50)
    assert all(map(is_whole, seen))
    assert len({number for number, _, _ in seen}) > 25
    assert len(list((tmp_path / "model" / VERSIONS).iterdir())) == 2  # itself and the one before


@pytest.mark.slow
def test_a_reader_of_an_object_store_never_sees_a_mix(described: Bundle, bucket: Bucket) -> None:
    seen = watched(Place(f"{bucket.uri}/model", bucket.options), described, 3)
    assert all(map(is_whole, seen))
    assert len({number for number, _, _ in seen}) > 1


@pytest.mark.parametrize("kind", ["new", "old"])
def test_whenever_the_writer_is_stopped_the_folder_holds_the_one_or_the_other(
    kind: str, described: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write and removal; afterwards the same publication, begun again, ends as if nothing had been."""
    place = Place(str(tmp_path / "model"))
    publish(place, *small(described, 0))
    if kind == "old":  # it has been replaced before
        publish(place, *small(described, 1))
    started = opened(place)
    left = [0]

    def stopped(real: Callable[..., None]) -> Callable[..., None]:
        def act(self: Place, *arguments: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            real(self, *arguments)

        return act

    monkeypatch.setattr(Place, "write", stopped(Place.write))
    monkeypatch.setattr(Place, "remove", stopped(Place.remove))
    outcomes = []
    for stop in range(1, 100):
        shutil.copytree(tmp_path / "model", tmp_path / f"stopped-{stop}")
        there = Place(str(tmp_path / f"stopped-{stop}"))
        left[0] = stop
        try:
            publish(there, *small(described, 2))
        except KeyboardInterrupt:
            outcomes.append(opened(there))
            left[0] = 0
            publish(there, *small(described, 2))
        else:
            break
        assert opened(there)[0] == "2"
        assert (tmp_path / f"stopped-{stop}" / WEIGHTS).read_bytes() == b"weights 2"
    assert all(map(is_whole, outcomes))
    assert outcomes[0] == started
    assert outcomes[-1][0] == "2"


def test_who_opened_the_description_before_gets_the_weights_that_it_speaks_of(tmp_path: Path) -> None:
    """A worker of a night that began before the retraining published: whole, and with the old model."""
    place = Place(str(make_bundle(tmp_path / "model", seed=5)))
    begun = read_bundle(place)
    crops = np.zeros((1, 64, 64), np.uint8)
    before = open_engine(place, bundle=begun).probabilities(crops)
    make_bundle(tmp_path / "model", seed=6)
    assert read_bundle(place).model_id != begun.model_id
    check_bundle(place, begun)
    check_bundle(place, read_bundle(place))
    np.testing.assert_array_equal(open_engine(place, bundle=begun).probabilities(crops), before)
    assert not np.array_equal(open_engine(place).probabilities(crops), before)


def test_a_bundle_two_publications_ago_is_refused_and_not_mixed(described: Bundle, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "model"))
    for number in range(3):
        publish(place, *small(described, number))
    with pytest.raises(BundleError, match="belongs to another bundle"):
        check_bundle(place, small(described, 0)[0])


def test_what_the_new_bundle_does_not_have_is_gone(described: Bundle, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "model"))
    bundle, files = small(described, 0)
    publish(place, bundle, {**files, SIGNATURE: b"signed", "int8.safetensors": b"8"})
    bundle, files = small(described, 1)
    publish(place, bundle, {WEIGHTS: files[WEIGHTS]})
    assert {file.name for file in (tmp_path / "model").iterdir()} == {DESCRIPTION, WEIGHTS, VERSIONS}
    assert read_split(place, bundle) is None


def test_a_description_that_nobody_can_read_is_replaced(described: Bundle, tmp_path: Path) -> None:
    place = Place(str(tmp_path / "model"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / DESCRIPTION).write_text(json.dumps({"classes": 3}))
    publish(place, *small(described, 0))
    assert is_whole(opened(place))
