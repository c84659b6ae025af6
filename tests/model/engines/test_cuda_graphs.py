"""Batches of fixed shape: whatever comes is computed in them, and comes out as if computed alone. Here without a GPU; see test_cuda."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from btc_ray.errors import DeviceError
from btc_ray.model.bundle import read_arrays, read_bundle
from btc_ray.model.engines.choose import choose
from btc_ray.model.engines.cuda_graphs import GraphedStreams
from btc_ray.model.engines.folding import FEATURES
from btc_ray.model.engines.torch_engine import TorchEngine
from btc_ray.storage import Place

SHAPE = (6, 5)


def sums(grey: Tensor) -> Tensor:
    """Of each image its sum, 512 times: what no other image's can be taken for."""
    return grey.float().sum(dim=(1, 2))[:, None].expand(-1, FEATURES)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def graphed_streams(compute: object = sums, *, batch: int = 4, count: int = 1) -> GraphedStreams:
    return GraphedStreams(compute, device="cpu", batch=batch, shape=SHAPE, count=count)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_any_number_of_images_is_computed_in_batches_of_one_shape(count: int) -> None:
    seen = []

    def compute(grey: Tensor) -> Tensor:
        seen.append(tuple(grey.shape))
        return sums(grey)

    found = graphed_streams(compute).features(images(count))
    assert found.shape == (count, FEATURES)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0], images(count).sum(axis=(1, 2)))
    assert set(seen) == {(4, *SHAPE)}


def test_what_an_earlier_batch_left_is_not_handed_out() -> None:
    one_stream = graphed_streams()
    before = one_stream.features(images(4)).copy()
    assert np.array_equal(one_stream.features(images(4)[:1]), before[:1])
    kept = one_stream.features(images(2))
    one_stream.features(images(4))
    assert np.array_equal(kept[:, 0], images(2).sum(axis=(1, 2)))  # and the next call does not write into it


def test_as_many_calls_compute_at_a_time_as_there_are_streams() -> None:
    under_way, most, counting = 0, 0, threading.Lock()

    def compute(grey: Tensor) -> Tensor:
        nonlocal under_way, most
        with counting:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with counting:
            under_way -= 1
        return sums(grey)

    two = graphed_streams(compute, count=2)
    given = [images(count) for count in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(two.features, given))
    assert most == 2
    for features, pixels in zip(found, given, strict=True):
        assert np.array_equal(features[:, 0], pixels.sum(axis=(1, 2)))


def test_a_call_that_fails_leaves_its_streams_to_the_next() -> None:
    broken = False

    def compute(grey: Tensor) -> Tensor:
        if broken:
            raise RuntimeError("a kernel failed")
        return sums(grey)

    one_stream = graphed_streams(compute)
    broken = True
    with pytest.raises(RuntimeError, match="a kernel failed"):
        one_stream.features(images(2))
    broken = False
    assert np.array_equal(one_stream.features(images(2))[:, 0], images(2).sum(axis=(1, 2)))


@pytest.mark.parametrize(
    "said", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("FIND was unable to find an engine")]
)
def test_where_there_is_no_room_a_streams_is_smaller(said: Exception) -> None:
    seen = []

    def compute(grey: Tensor) -> Tensor:
        if len(grey) > 3:
            raise said
        seen.append(len(grey))
        return sums(grey)

    found = graphed_streams(compute, batch=8, count=2).features(images(5))
    assert set(seen) == {2}
    assert np.array_equal(found[:, 0], images(5).sum(axis=(1, 2)))

    def none(grey: Tensor) -> Tensor:
        raise said

    with pytest.raises(type(said)):
        graphed_streams(none, batch=8)


def test_there_are_as_many_streams_as_have_room() -> None:
    made = 0

    def compute(grey: Tensor) -> Tensor:
        nonlocal made
        if len(grey) == 4 and made == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made += 1
        return sums(grey)

    one = graphed_streams(compute, batch=4, count=2)
    assert one._free.qsize() == 1
    made = 2  # the call that failed was the second stream's
    assert np.array_equal(one.features(images(9))[:, 0], images(9).sum(axis=(1, 2)))


def test_a_failed_gpu_is_told_from_a_failed_batch(model: Path) -> None:
    bundle = read_bundle(Place(str(model)))
    engine = TorchEngine(bundle, read_arrays(Place(str(model)), bundle), choose(engine="torch", device="cpu", precision="fp32"))
    for raised, seen in (
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nFor debugging …"), DeviceError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    ):

        def compute(grey: Tensor, raised: Exception = raised) -> Tensor:
            raise raised

        engine._network.features = compute  # type: ignore[assignment]
        with pytest.raises(seen) as told:
            engine.probabilities(np.zeros((2, 64, 64), np.uint8))
        assert "For debugging" not in str(told.value)


def test_an_engine_says_the_same_through_streams(model: Path) -> None:
    bundle = read_bundle(Place(str(model)))
    engine = TorchEngine(bundle, read_arrays(Place(str(model)), bundle), choose(engine="torch", device="cpu", precision="fp32"))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)
    expected = engine.answers(pixels)
    engine._streams = GraphedStreams(engine._network.features, device="cpu", batch=4, shape=(64, 64), count=1)
    for ours, theirs in zip(engine.answers(pixels), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    other = pixels[:, :32]  # of another shape: without them
    assert engine._features(other).shape == (7, 512)
