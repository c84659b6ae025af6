"""OpenVINO computes what torch computes in fp32: the same labels, probabilities within the tolerance of each precision."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from btc_ray.model.bundle import read_arrays, read_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice, EngineError
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.storage import Place
from tests.conftest import CLASSES

pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'btc-ray[cpu]'")

from btc_ray.model.engines.openvino_engine import OpenVINOEngine
from btc_ray.model.engines.torch_engine import TorchEngine

TORCH = Choice(engine="torch", device="cpu", precision="fp32")
FP32 = Choice(engine="openvino", device="cpu", precision="fp32")


def openvino(precision: str) -> Choice:
    try:
        return choose(engine="openvino", precision=precision)  # type: ignore[arg-type]
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """The middle of 24 phantoms, at the 64 pixels that the small bundle looks at."""
    return np.stack([make_phantom(CLASSES[seed % 4], seed=seed, size=(96, 96)).pixels[16:80, 16:80] for seed in range(24)])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02)])
def test_openvino_agrees_with_torch_in_fp32(model: Path, crops: np.ndarray, precision: str, tolerance: float) -> None:
    bundle, state = read_bundle(Place(str(model))), read_arrays(Place(str(model)), read_bundle(Place(str(model))))
    one_sided = TorchEngine(bundle, state, TORCH, threads=1).probabilities(crops)
    state["fc.bias"] -= np.log(one_sided).mean(axis=0)  # a model that says one thing agrees with everything
    exact = TorchEngine(bundle, state, TORCH, threads=1).probabilities(crops)
    assert len(set(exact.argmax(axis=1))) > 2
    found = OpenVINOEngine(bundle, state, openvino(precision), threads=1).probabilities(crops)
    np.testing.assert_allclose(found, exact, atol=tolerance)
    assert np.array_equal(found.argmax(axis=1), exact.argmax(axis=1))


def test_an_engine_that_drifts_is_seen(model: Path, crops: np.ndarray) -> None:
    bundle, state = read_bundle(Place(str(model))), read_arrays(Place(str(model)), read_bundle(Place(str(model))))
    exact = OpenVINOEngine(bundle, state, FP32, threads=1).probabilities(crops)
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"] * np.float32(1.02)
    state["layer3.0.bn1.bias"] = state["layer3.0.bn1.bias"] + np.float32(0.02)
    drifted = OpenVINOEngine(bundle, state, FP32, threads=1).probabilities(crops)
    assert np.abs(drifted - exact).max() > 0.02


def test_any_number_of_images_goes_through_one_engine(model: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    exact, found = (open_engine(Place(str(model)), choice, threads=1) for choice in (TORCH, FP32))
    for count in (5, 1, 3, 0):
        np.testing.assert_allclose(found.probabilities(grey[:count]), exact.probabilities(grey[:count]), atol=1e-4)
    assert found.probabilities(grey[:0]).shape == (0, 4)


def test_the_temperature_is_the_bundles(model: Path, crops: np.ndarray) -> None:
    bundle = replace(read_bundle(Place(str(model))), temperature=3.0)
    state = read_arrays(Place(str(model)), bundle)
    exact = TorchEngine(bundle, state, TORCH, threads=1).probabilities(crops[:8])
    np.testing.assert_allclose(OpenVINOEngine(bundle, state, FP32, threads=1).probabilities(crops[:8]), exact, atol=1e-4)


def test_several_threads_share_an_engine(model: Path, crops: np.ndarray) -> None:
    engine = open_engine(Place(str(model)), FP32, threads=1, calls=2)
    batches = [crops[start : start + 7] for start in range(0, 56, 7)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.probabilities, batches))
    assert all(np.array_equal(found, engine.probabilities(batch)) for found, batch in zip(together, batches, strict=True))


def test_scoring_with_openvino_imports_no_torch(model: Path) -> None:
    code = f"""
import sys, numpy as np
from btc_ray.model.engines.choose import choose, open_engine
import btc_ray.scoring.local, btc_ray.scoring.run
from btc_ray.storage import Place
engine = open_engine(Place({str(model)!r}), choose(engine="openvino"))
engine.probabilities(np.zeros((1, 64, 64), np.uint8))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_openvino_is_refused_where_it_does_not_compute() -> None:
    with pytest.raises(EngineError, match="computes on CPUs"):
        choose(engine="openvino", device="cuda")
    with pytest.raises(EngineError, match="fp16 needs a GPU"):
        choose(engine="openvino", precision="fp16")
