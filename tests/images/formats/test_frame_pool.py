"""Compressed frames in child processes: a crash, a hang or a damaged frame is one frame's reason, and the next one is decoded."""

import os
import signal
import threading

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats import frame_pool
from btc_ray.images.formats.samples import sample_frame
from tests.images.formats.dicom_files import encoded, head


def _task(syntax: str) -> frame_pool.Task:
    return frame_pool.Task(
        syntax=syntax, rows=120, columns=100, samples=1, allocated=16, stored=12, signed=False, photometric="MONOCHROME2", planar=0
    )  # fmt: skip


@pytest.fixture
def j2k() -> bytes:
    pytest.importorskip("openjpeg")
    return encoded(head(), JPEG2000Lossless)


@pytest.mark.slow
def test_a_decoder_that_never_returns_is_ended_and_the_next_frame_is_decoded(monkeypatch: pytest.MonkeyPatch, j2k: bytes) -> None:
    pytest.importorskip("jpeg_ls")
    monkeypatch.setattr(frame_pool, "SECONDS", 1)
    frame = encoded(head(), JPEGLSLossless)
    with pytest.raises(Unreadable, match=r"took longer than 1 s|damaged"):
        frame_pool.decode(frame[: len(frame) // 2], _task(JPEGLSLossless))
    assert np.array_equal(frame_pool.decode(j2k, _task(JPEG2000Lossless)), head())


def test_a_child_that_was_killed_is_replaced(j2k: bytes) -> None:
    frame_pool.decode(j2k, _task(JPEG2000Lossless))
    for child in frame_pool._pool().idle:
        os.kill(child.process.pid, signal.SIGKILL)
    assert np.array_equal(frame_pool.decode(j2k, _task(JPEG2000Lossless)), head())


def test_children_that_were_all_killed_cost_no_frame(j2k: bytes) -> None:
    pool = frame_pool._pool()
    pool.idle += [frame_pool._Child() for _ in range(3)]
    for child in pool.idle:
        os.kill(child.process.pid, signal.SIGKILL)
    for _ in range(4):
        assert np.array_equal(frame_pool.decode(j2k, _task(JPEG2000Lossless)), head())
    frame_pool.close()


def test_a_damaged_frame_is_unreadable(j2k: bytes) -> None:
    with pytest.raises(Unreadable, match="JPEG 2000"):
        frame_pool.decode(j2k[:40] + bytes(200), _task(JPEG2000Lossless))


def test_a_jpeg_of_12_bits_is_not_called_damaged() -> None:
    sample = sample_frame("1.2.840.10008.1.2.4.51")
    assert sample is not None
    task = frame_pool.Task(
        syntax="1.2.840.10008.1.2.4.51", rows=64, columns=64, samples=1, allocated=16, stored=12, signed=False,
        photometric="MONOCHROME2", planar=0,
    )  # fmt: skip
    with pytest.raises(Unsupported, match="export it uncompressed"):
        frame_pool.decode(sample[0], task)


def test_threads_share_as_many_children_as_there_are_cores(j2k: bytes) -> None:
    found: list[bool] = []

    def work() -> None:
        found.extend(bool(np.array_equal(frame_pool.decode(j2k, _task(JPEG2000Lossless)), head())) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 30
    assert len(frame_pool._pool().idle) <= len(os.sched_getaffinity(0))


def test_closing_leaves_no_child_behind(j2k: bytes) -> None:
    frame_pool.decode(j2k, _task(JPEG2000Lossless))
    children = [child.process for child in frame_pool._pool().idle]
    assert children
    frame_pool.close()
    assert all(process.poll() is not None for process in children)
