"""The engine on a GPU computes what it computes on the CPU, whichever stream a batch takes. Skipped where there is none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Engine
from btc_ray.model.engines.torch_engine import TorchEngine
from btc_ray.settings.job import Precision
from btc_ray.storage import Place
from tests.scoring.runs import rows, score

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA knows")

NEAR = {"fp32": 1e-4, "bf16": 0.02, "fp16": 0.02}


def opened(model: Path, precision: Precision, *, calls: int = 2, batch: int = 16) -> Engine:
    choice = choose(engine="torch", device="cuda", precision=precision)
    return open_engine(Place(str(model)), choice, threads=1, calls=calls, batch=batch)


def crops(model: Path, count: int) -> np.ndarray:
    side = Preprocess.from_dict(read_bundle(Place(str(model))).preprocess).size
    return np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)


@pytest.mark.parametrize("precision", list(NEAR))
def test_the_gpu_says_what_the_cpu_says(model: Path, precision: Precision) -> None:
    cpu = open_engine(Place(str(model)), choose(engine="torch", device="cpu", precision="fp32"))
    gpu = opened(model, precision)
    assert isinstance(gpu, TorchEngine)
    assert gpu._streams is not None
    for count in (1, 16, 37):  # a part of a stream, all of it, several
        given = crops(model, count)
        np.testing.assert_allclose(gpu.probabilities(given), cpu.probabilities(given), atol=NEAR[precision])
    other = crops(model, 3)[:, :48, :32]  # of no stream's shape
    np.testing.assert_allclose(gpu.probabilities(other), cpu.probabilities(other), atol=NEAR[precision])


def test_threads_that_share_the_streams_get_their_own_answers(model: Path) -> None:
    engine = opened(model, "bf16")
    given = [crops(model, count) for count in range(1, 41)]
    alone = [engine.probabilities(pixels) for pixels in given]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(engine.probabilities, given * 5))
    for found, expected in zip(together, alone * 5, strict=True):
        assert np.array_equal(found, expected)  # one shape, so one set of kernels: to the last bit


def test_a_run_on_the_gpu_labels_as_one_on_the_cpu(model: Path, phantoms: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        found = score(model, [phantoms / "Testing"], tmp_path / device, "--device", device, "--precision", "fp32")
        assert found == 0
    ours, theirs = (rows(tmp_path / device).sort_values("uri") for device in ("cuda", "cpu"))
    assert ours["label"].tolist() == theirs["label"].tolist()
    np.testing.assert_allclose(ours["confidence"], theirs["confidence"], atol=1e-3)
