"""The engine computes what the plain network computes, whatever it does to be fast."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch._subclasses.fake_tensor import FakeTensorMode

from btc_ray.model.bundle import IMAGENET_MEAN, IMAGENET_STD, read_arrays, read_bundle, read_weights
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import EngineError
from btc_ray.model.engines.folded import FoldedResNet18, folded_network
from btc_ray.model.engines.folding import fold
from btc_ray.model.engines.torch_engine import TorchEngine, choose_precision
from btc_ray.model.network import build_network
from btc_ray.settings.job import Engine
from btc_ray.storage import Place

FP32 = choose(engine="torch", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 64, 64), dtype=np.uint8)


def plain(model: Path, pixels: np.ndarray) -> np.ndarray:
    """Probabilities by the textbook: three equal channels, normalised, the network as torchvision has it."""
    bundle = read_bundle(Place(str(model)))
    network = build_network(len(bundle.classes))
    network.load_state_dict(read_weights(Place(str(model)), bundle))
    images = torch.from_numpy(pixels).float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)
    images = (images - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        return network.eval()(images).softmax(1).numpy()


def test_the_engine_agrees_with_the_plain_network(model: Path, pixels: np.ndarray) -> None:
    engine = open_engine(Place(str(model)), FP32)
    np.testing.assert_allclose(engine.probabilities(pixels), plain(model, pixels), atol=1e-4)


def test_bf16_stays_near_fp32(model: Path, pixels: np.ndarray) -> None:
    exact, half = (
        open_engine(Place(str(model)), choose(engine="torch", device="cpu", precision=name)).probabilities(pixels)
        for name in ("fp32", "bf16")
    )
    assert not np.array_equal(exact, half)
    np.testing.assert_allclose(half, exact, atol=0.02)


def test_an_image_gets_the_same_probabilities_in_any_company(model: Path, pixels: np.ndarray) -> None:
    engine = open_engine(Place(str(model)), FP32)
    alone = np.concatenate([engine.probabilities(pixels[index : index + 1]) for index in range(len(pixels))])
    np.testing.assert_allclose(engine.probabilities(pixels), alone, atol=1e-5)


def test_several_threads_may_share_an_engine(model: Path, pixels: np.ndarray) -> None:
    engine = open_engine(Place(str(model)), FP32, threads=1)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(engine.probabilities, [pixels] * 8))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_linear_algebra_has_as_many_threads_as_a_call(model: Path) -> None:
    """With more, two calls on two cores took 1.4 times as long."""

    def found() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):  # and afterwards what it was
        open_engine(Place(str(model)), FP32)
        assert found() == {2}
        open_engine(Place(str(model)), FP32, threads=1)
        assert found() == {1}


def test_no_images_give_no_probabilities(model: Path) -> None:
    assert open_engine(Place(str(model)), FP32).probabilities(np.empty((0, 64, 64), np.uint8)).shape == (0, 4)


def test_temperature_flattens_the_probabilities(model: Path, pixels: np.ndarray) -> None:
    from dataclasses import replace

    bundle = read_bundle(Place(str(model)))
    state = read_arrays(Place(str(model)), bundle)
    cool, hot = (TorchEngine(replace(bundle, temperature=value), state, FP32).probabilities(pixels) for value in (1.0, 4.0))
    assert (hot.max(1) < cool.max(1)).all()
    assert np.array_equal(hot.argmax(1), cool.argmax(1))


def test_what_the_machine_does_not_have_is_refused_by_name() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match="--device cuda is not available"):
        choose(device="cuda")
    with pytest.raises(EngineError, match="fp16 needs a GPU"):
        choose_precision("fp16", "cpu")


HEADLESS = {"fc.weight": torch.empty(0, 512), "fc.bias": torch.empty(0)}


@pytest.mark.parametrize("shape", [(64, 64), (224, 224), (97, 65)])
def test_the_folded_network_is_torchvisions_to_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = build_network(3)
    network.train()(torch.randn(8, 3, 64, 64))  # gives BatchNorm statistics that are not those of its start
    network.fc = torch.nn.Identity()
    folded = folded_network(network.eval().state_dict() | HEADLESS, mean=IMAGENET_MEAN, std=IMAGENET_STD, device="cpu")
    grey = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    images = grey.float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)
    images = (images - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(folded.features(grey), network(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_stages_of_the_folded_network_are_torchvisions_pooled(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = build_network(3)
    network.train()(torch.randn(8, 3, 64, 64))
    network.fc = torch.nn.Identity()
    pooled: list[torch.Tensor] = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage.register_forward_hook(lambda _module, _inputs, output: pooled.append(output.mean(dim=(2, 3))))
    state = network.eval().state_dict() | HEADLESS
    folded = folded_network(state, mean=IMAGENET_MEAN, std=IMAGENET_STD, device="cpu", dtype=dtype, stages=True)
    grey = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    images = grey.float().div(255).unsqueeze(1).expand(-1, 3, -1, -1)
    images = (images - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    with torch.inference_mode():
        last, found = network(images), folded.features(grey)
        assert found.shape == (2, 960)
        torch.testing.assert_close(found, torch.cat(pooled, dim=1), atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(found[:, -512:], last, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu_everything_is_on_the_gpu(model: Path, dtype: torch.dtype) -> None:
    """With torch's stand-ins for tensors, which have a device and a type and need no GPU: what mixes two raises."""
    bundle = read_bundle(Place(str(model)))
    folded = fold(read_arrays(Place(str(model)), bundle), mean=bundle.mean, std=bundle.std)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = FoldedResNet18(folded, device="cuda", dtype=dtype)
        found = network.features(torch.zeros(2, 64, 64, dtype=torch.uint8, device="cuda"))
    assert (found.device.type, found.dtype, found.shape) == ("cuda", torch.float32, (2, 512))


def test_fp16_stays_near_fp32(model: Path, pixels: np.ndarray) -> None:
    """What GPUs older than bf16 compute in, here on the CPU."""
    bundle = read_bundle(Place(str(model)))
    folded = fold(read_arrays(Place(str(model)), bundle), mean=bundle.mean, std=bundle.std)
    with torch.inference_mode():
        exact, half = (
            FoldedResNet18(folded, device="cpu", dtype=dtype).features(torch.from_numpy(pixels))
            @ torch.from_numpy(folded.head[0].T)
            for dtype in (torch.float32, torch.float16)
        )
    assert not torch.equal(exact, half)
    torch.testing.assert_close(half.softmax(1), exact.softmax(1), atol=0.02, rtol=0)


def test_scoring_does_not_import_torchvision(model: Path) -> None:
    opened = f"from btc_ray.model.engines.choose import open_engine; from btc_ray.storage import Place; open_engine(Place({str(model)!r}))"
    code = f"import sys; {opened}; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_test_time_flips_are_the_mean_over_the_flips_of_each_image(
    model: Path, pixels: np.ndarray, tmp_path: Path, name: Engine
) -> None:
    if name == "openvino":
        pytest.importorskip("openvino", reason="needs pip install 'btc-ray[cpu]'")
    flipping = Path(shutil.copytree(model, tmp_path / "model"))
    content = json.loads((flipping / "bundle.json").read_text())
    (flipping / "bundle.json").write_text(json.dumps(content | {"test_time_flips": True, "temperature": 2.0}))
    choice = choose(engine=name, device="cpu", precision="fp32")
    plain, flipped = (open_engine(Place(str(folder)), choice) for folder in (model, flipping))
    axes: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))
    logits = np.mean([np.log(plain.probabilities(np.flip(pixels, which))) for which in axes], axis=0) / 2
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(flipped.probabilities(pixels), expected, atol=1e-4)
    np.testing.assert_allclose(flipped.probabilities(pixels[:, ::-1]), flipped.probabilities(pixels), atol=1e-4)
    assert np.abs(flipped.probabilities(pixels) - plain.probabilities(pixels)).max() > 0.01
    assert flipped.probabilities(pixels[:0]).shape == (0, 4)
