"""The int8 form is made where it can be tried, and its record is of images that it was not made from."""

from pathlib import Path

import numpy as np
import pytest

from btc_ray.model.bundle import read_arrays, read_bundle, read_weights
from btc_ray.model.engines.engine import Choice
from btc_ray.model.int8 import make
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.storage import Place
from tests.conftest import CLASSES

pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'btc-ray[cpu]'")

from btc_ray.model.engines import openvino_engine
from btc_ray.model.engines.openvino_engine import OpenVINOEngine, has_int8


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.stack([make_phantom(CLASSES[seed % 4], seed=seed, size=(96, 96)).pixels[16:80, 16:80] for seed in range(16)])


def test_the_record_says_how_int8_did_on_the_validation_images(
    model: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_int8():
        pytest.skip("needs a CPU with VNNI instructions")
    monkeypatch.setattr(make, "LEAST_IMAGES", 8)
    bundle = read_bundle(Place(str(model)))
    exact = OpenVINOEngine(
        bundle, read_arrays(Place(str(model)), bundle), Choice(engine="openvino", device="cpu", precision="fp32")
    )
    likely = exact.probabilities(crops[8:])
    made = make.int8_form(bundle, read_weights(Place(str(model)), bundle), crops, np.arange(8), np.arange(8, 16), likely, seed=0)
    assert made is not None
    network, record = made
    eight_bits = Choice(engine="openvino", device="cpu", precision="int8")
    found = OpenVINOEngine(bundle, read_arrays(Place(str(model)), bundle), eight_bits, int8=network).probabilities(crops[8:])
    assert record["images"] == 8
    assert record["largest_difference"] == pytest.approx(np.abs(found - likely).max(), abs=1e-4)
    assert record["passed"] is False  # of 8 images nobody can tell


def test_without_enough_images_or_instructions_there_is_none_and_it_is_said(
    model: Path, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = read_bundle(Place(str(model)))
    state, likely = read_weights(Place(str(model)), bundle), np.full((8, 4), 0.25, np.float32)
    assert make.int8_form(bundle, state, crops, np.arange(8), np.arange(8, 16), likely, seed=0) is None
    assert "200 validation images" in capsys.readouterr().err
    monkeypatch.setattr(make, "LEAST_IMAGES", 8)
    monkeypatch.setattr(openvino_engine, "has_int8", lambda: False)
    assert make.int8_form(bundle, state, crops, np.arange(8), np.arange(8, 16), likely, seed=0) is None
    assert "VNNI" in capsys.readouterr().err
