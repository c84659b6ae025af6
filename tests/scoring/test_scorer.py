"""A model that fails on some images costs those images, and says why."""

import numpy as np
import pytest

from btc_ray.errors import DeviceError
from btc_ray.images.batch import prepare_batch
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, read_bundle
from btc_ray.model.reference import Answers
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.scoring.scorer import Predictor
from btc_ray.storage import Place


class Small:
    """An engine with memory for two images, none of which may be quite dark."""

    device = "cpu"

    def answers(self, pixels: np.ndarray) -> Answers:
        if len(pixels) > 2:
            raise MemoryError
        if (pixels.reshape(len(pixels), -1).max(axis=1) < 60).any():
            raise RuntimeError("broken kernel\nwith a long explanation")
        nothing = np.full(len(pixels), np.nan, np.float32)
        return Answers(np.tile(np.float32([0.1, 0.2, 0.3, 0.4]), (len(pixels), 1)), np.zeros(len(pixels), np.float32), nothing)


@pytest.fixture
def bundle(model: object) -> Bundle:
    return read_bundle(Place(str(model)))


def test_a_batch_too_large_for_memory_is_halved_until_it_fits(bundle: Bundle) -> None:
    import cv2

    images = [make_phantom("glioma", seed=seed, size=(96, 96)).pixels for seed in range(7)]
    images[3] = images[3] // 8
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    rows = [{"row_id": number, "uri": f"{number}.png", "problem_status": None, "problem": None} for number in range(7)]
    prepared = prepare_batch(rows, encoded, Preprocess.from_dict(bundle.preprocess))
    table = Predictor(bundle, Small())(prepared).to_pylist()  # type: ignore[arg-type]
    assert [row["status"] for row in table] == ["ok"] * 3 + ["failed"] + ["ok"] * 3
    assert table[3]["error"] == "the model failed on this image: broken kernel"
    assert table[0]["label"] == bundle.classes[3]


def test_a_gpu_that_fails_is_no_fault_of_an_image(bundle: Bundle) -> None:
    import cv2

    class Broken:
        def answers(self, pixels: np.ndarray) -> Answers:
            raise DeviceError("the GPU failed: CUDA error: unspecified launch failure")

    encoded = cv2.imencode(".png", make_phantom("glioma", seed=0, size=(96, 96)).pixels)[1].tobytes()
    rows = [{"row_id": 0, "uri": "0.png", "problem_status": None, "problem": None}]
    prepared = prepare_batch(rows, [encoded], Preprocess.from_dict(bundle.preprocess))
    with pytest.raises(DeviceError):
        Predictor(bundle, Broken())(prepared)  # type: ignore[arg-type]
