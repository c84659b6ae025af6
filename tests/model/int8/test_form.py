"""int8 says what fp32 says, is used only where it was shown to, and is refused where it is missing or damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, BundleError, read_arrays, read_bundle, read_int8, read_weights, write_bundle
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice, EngineError
from btc_ray.model.engines.folding import STAGES, fold
from btc_ray.model.int8.form import INT8, Int8Network, agreement, agreement_in_words
from btc_ray.model.int8.quantise import quantise
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.storage import Place
from tests.conftest import CLASSES

pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'btc-ray[cpu]'")

from btc_ray.model.engines import openvino_engine
from btc_ray.model.engines.openvino_engine import Compiled, OpenVINOEngine, choose_precision, has_int8
from btc_ray.model.engines.openvino_graph import int8_resnet18, resnet18

FP32, EIGHT_BITS = (Choice(engine="openvino", device="cpu", precision=precision) for precision in ("fp32", "int8"))
PASSED = {"images": 300, "labels_agree": 1.0, "largest_difference": 0.02, "passed": True}
needs_vnni = pytest.mark.skipif(not has_int8(), reason="needs a CPU with VNNI instructions")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """The middle of 48 phantoms, at the 64 pixels that the small bundle looks at."""
    return np.stack([make_phantom(CLASSES[seed % 4], seed=seed, size=(96, 96)).pixels[16:80, 16:80] for seed in range(48)])


@pytest.fixture(scope="module")
def network(model: Path, crops: np.ndarray) -> Int8Network:
    bundle = read_bundle(Place(str(model)))
    return quantise(fold(read_arrays(Place(str(model)), bundle), mean=bundle.mean, std=bundle.std), crops[24:])


@pytest.fixture(scope="module")
def with_int8(model: Path, network: Int8Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with an int8 form that passed."""
    bundle, folder = read_bundle(Place(str(model))), tmp_path_factory.mktemp("int8") / "model"
    write_bundle(
        Place(str(folder)),
        state=read_weights(Place(str(model)), bundle),
        classes=bundle.classes,
        preprocess=Preprocess.from_dict(bundle.preprocess),
        training={},
        data={},
        metrics={},
        int8=(network, PASSED),
    )
    return folder


def two_sided(model: Path, crops: np.ndarray) -> tuple[Bundle, dict[str, np.ndarray], np.ndarray]:
    """The small bundle made to name several classes, and what it says in fp32: a model that says one thing agrees with everything."""
    bundle = read_bundle(Place(str(model)))
    state = read_arrays(Place(str(model)), bundle)
    state["fc.bias"] -= np.log(OpenVINOEngine(bundle, state, FP32, threads=1).probabilities(crops)).mean(axis=0)
    exact = OpenVINOEngine(bundle, state, FP32, threads=1).probabilities(crops)
    assert len(set(exact.argmax(axis=1))) > 2
    return bundle, state, exact


@pytest.fixture
def nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What int8 itself comes to: the small bundle is sure of little, and would compute nearly all of it again."""
    monkeypatch.setattr(openvino_engine, "CLEAR", 0.0)


@needs_vnni
@pytest.mark.usefixtures("nothing_again")
def test_int8_agrees_with_fp32_on_crops_that_it_was_not_made_from(model: Path, network: Int8Network, crops: np.ndarray) -> None:
    bundle, state, exact = two_sided(model, crops[:24])
    found = OpenVINOEngine(bundle, state, EIGHT_BITS, int8=network, threads=1).probabilities(crops[:24])
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=0.05)  # nearly all of them toss-ups, which are computed again elsewhere


@needs_vnni
@pytest.mark.usefixtures("nothing_again")
def test_an_int8_network_that_drifts_is_seen(model: Path, network: Int8Network, crops: np.ndarray) -> None:
    bundle, state, exact = two_sided(model, crops[:24])
    block = network.blocks[4]
    drifted = replace(block, first=replace(block.first, scale=block.first.scale * np.float32(1.2)))
    blocks = (*network.blocks[:4], drifted, *network.blocks[5:])
    other = OpenVINOEngine(bundle, state, EIGHT_BITS, int8=replace(network, blocks=blocks), threads=1).probabilities(crops[:24])
    assert np.abs(other - exact).max() > 0.05


@needs_vnni
def test_what_int8_is_not_sure_of_is_computed_again(
    model: Path, network: Int8Network, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, state, _ = two_sided(model, crops[:24])
    again = OpenVINOEngine(bundle, state, replace(EIGHT_BITS, precision=openvino_engine.exacter()), threads=1).answers(crops[:24])
    monkeypatch.setattr(openvino_engine, "CLEAR", 0.0)
    eight_bits = OpenVINOEngine(bundle, state, EIGHT_BITS, int8=network, threads=1).answers(crops[:24])
    confidence = eight_bits.probabilities.max(axis=1)
    middle = float(np.median(confidence))
    monkeypatch.setattr(openvino_engine, "CLEAR", middle)
    found = OpenVINOEngine(bundle, state, EIGHT_BITS, int8=network, threads=1).answers(crops[:24])
    unclear = confidence < middle
    for both, exact, quick in zip(found[:2], again[:2], eight_bits[:2], strict=True):
        np.testing.assert_allclose(both[unclear], exact[unclear], atol=0.01)  # in batches of other sizes, so not to the bit
        assert np.array_equal(both[~unclear], quick[~unclear])


@needs_vnni
def test_the_convolutions_of_the_blocks_compute_in_8_bits(model: Path, network: Int8Network, crops: np.ndarray) -> None:
    """OpenVINO falls back to fp32 without a word where a graph does not suit it: all would agree, and nothing be faster."""
    bundle = read_bundle(Place(str(model)))
    engine = OpenVINOEngine(bundle, read_arrays(Place(str(model)), bundle), EIGHT_BITS, int8=network, threads=1)
    engine.probabilities(crops[:2])
    graph = engine._compiled._model.get_runtime_model()
    types = [
        node.get_rt_info()["primitiveType"].astype(str)
        for node in graph.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert len(types) == 20  # the stem, two a block, three shortcuts
    assert sum(name.endswith("I8") for name in types) == 19


@needs_vnni
def test_a_bundle_keeps_its_int8_form(with_int8: Path, network: Int8Network, crops: np.ndarray) -> None:
    bundle = read_bundle(Place(str(with_int8)))
    kept = read_int8(Place(str(with_int8)), bundle)
    assert [block.name for block in kept.blocks] == [block.name for block in network.blocks]
    for mine, other in zip(network.blocks, kept.blocks, strict=True):
        assert (mine.stride, mine.step, mine.inner_step) == (other.stride, other.step, other.inner_step)
        np.testing.assert_array_equal(mine.second.weight, other.second.weight)
        assert (mine.shortcut is None) == (other.shortcut is None)
    made = OpenVINOEngine(bundle, read_arrays(Place(str(with_int8)), bundle), EIGHT_BITS, int8=network, threads=1)
    opened = open_engine(Place(str(with_int8)), choose(engine="openvino", precision="int8", bundle=bundle), threads=1)
    assert np.array_equal(made.probabilities(crops[:8]), opened.probabilities(crops[:8]))
    assert agreement_in_words(bundle.int8) in (with_int8 / "model_card.md").read_text()


def test_the_stages_have_the_scales_of_their_channels(network: Int8Network) -> None:
    scale = network.scale_of(stages=True)
    assert scale.shape == (sum(STAGES),)
    np.testing.assert_array_equal(scale[-512:], network.output_scale)
    np.testing.assert_array_equal(scale[:64], network.input_scale)  # what the first stage adds to is what the stem leaves
    np.testing.assert_array_equal(Int8Network.from_arrays(load(network.to_bytes())).scale_of(stages=True), scale)
    before = replace(network, stage_scale=None)
    np.testing.assert_array_equal(before.scale_of(stages=False), network.output_scale)
    assert Int8Network.from_arrays(load(before.to_bytes())).stage_scale is None


@needs_vnni
def test_in_8_bits_the_stages_are_pooled_as_in_fp32(model: Path, network: Int8Network, crops: np.ndarray) -> None:
    bundle = read_bundle(Place(str(model)))
    folded = fold(read_arrays(Place(str(model)), bundle), mean=bundle.mean, std=bundle.std)
    exact = Compiled(resnet18(folded, stages=True), precision="fp32", threads=1)(crops[:16]).copy()
    found = Compiled(int8_resnet18(folded, network, stages=True), precision="fp32", threads=1)(crops[:16])
    found = found * network.scale_of(stages=True)
    for stage, other in zip(
        np.split(exact, np.cumsum(STAGES)[:-1], axis=1), np.split(found, np.cumsum(STAGES)[:-1], axis=1), strict=True
    ):
        assert np.abs(stage - other).mean() < 0.05 * stage.std()


def test_a_bundle_of_before_has_no_int8_form_and_says_what_to_do(model: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(model, tmp_path / "old"))
    content = json.loads((old / "bundle.json").read_text())
    del content["int8"]
    (old / "bundle.json").write_text(json.dumps(content))
    bundle = read_bundle(Place(str(old)))
    with pytest.raises(BundleError, match="btc-ray retrain"):
        read_int8(Place(str(old)), bundle)
    if has_int8():
        with pytest.raises(EngineError, match="--precision bf16 or fp32"):
            choose(engine="openvino", precision="int8", bundle=bundle)
    assert choose(engine="openvino", bundle=bundle).precision != "int8"


@pytest.mark.slow
def test_a_missing_or_damaged_int8_form_is_refused(with_int8: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(with_int8, tmp_path / "copy"))
    data = bytearray((copy / INT8).read_bytes())
    data[-1] ^= 1
    (copy / INT8).write_bytes(data)
    with pytest.raises(BundleError, match="damaged or belongs to another bundle"):
        read_int8(Place(str(copy)), read_bundle(Place(str(copy))))
    (copy / INT8).unlink()
    with pytest.raises(BundleError, match="copy the whole bundle folder"):
        open_engine(Place(str(copy)), EIGHT_BITS)
    assert open_engine(Place(str(copy)), FP32, threads=1).choice == FP32  # nothing else needs it


@pytest.mark.parametrize(
    ("record", "vnni", "taken"),
    [(PASSED, True, True), (PASSED, False, False), (PASSED | {"passed": False}, True, False), ({}, True, False)],
)
def test_auto_takes_int8_where_the_bundle_passed_and_the_cpu_has_vnni(
    model: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, object], vnni: bool, taken: bool
) -> None:
    monkeypatch.setattr(openvino_engine, "has_int8", lambda: vnni)
    bundle = replace(read_bundle(Place(str(model))), int8=record)
    assert (choose_precision("auto", bundle) == "int8") is taken
    assert choose_precision("fp32", bundle) == "fp32"
    assert choose_precision("auto") != "int8"  # without a bundle nobody knows


def test_int8_is_refused_where_the_cpu_or_the_engine_does_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "has_int8", lambda: False)
    with pytest.raises(EngineError, match="VNNI"):
        choose(engine="openvino", precision="int8")
    with pytest.raises(EngineError, match="--engine openvino"):
        choose(engine="torch", precision="int8")


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx512_vnni", True), ("fpu avx_vnni", True), ("amx_int8", True), ("fpu avx2 avx512_bf16 avx512_vnni_not", False)],
)
def test_vnni_is_read_from_what_linux_says(tmp_path: Path, flags: str, found: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert has_int8(tmp_path / "cpuinfo") is found
    assert not has_int8(tmp_path / "nowhere")


def test_agreement_passes_with_enough_images_the_same_labels_and_small_differences() -> None:
    exact = np.tile(np.array([[0.7, 0.3], [0.2, 0.8]], np.float32), (150, 1))
    assert agreement(exact, exact + 0.02)["passed"]
    assert not agreement(exact, exact + 0.04)["passed"]
    assert not agreement(exact[:199], exact[:199])["passed"]
    assert not agreement(exact, np.full_like(exact, np.nan))["passed"]
    assert not agreement(exact[:0], exact[:0])["passed"]
    near = exact.copy()
    near[:4] = [0.505, 0.495]
    other = near.copy()
    other[:2] = [0.495, 0.505]  # 2 of 300 labels: 99.3 %
    record = agreement(near, other)
    assert record["largest_difference"] < 0.03
    assert record["labels_agree"] < 0.995
    assert not record["passed"]
