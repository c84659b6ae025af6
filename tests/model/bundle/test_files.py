"""A bundle is read without executing code, and a damaged or foreign one is refused in words."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from btc_ray.cli import main
from btc_ray.model.bundle import BundleError, read_arrays, read_bundle, read_weights, weights_id
from btc_ray.model.bundle.check import resnet18_shapes
from btc_ray.model.weights import initial_network
from btc_ray.storage import Place
from tests.conftest import CLASSES


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "model"))


def test_a_bundle_says_what_it_is(model: Path) -> None:
    bundle = read_bundle(Place(str(model)))
    assert bundle.classes == CLASSES
    assert len(bundle.model_id) == 16
    assert bundle.temperature == 1.0
    assert (model / "model_card.md").read_text().startswith(f"# Model {bundle.model_id}")
    assert "not for diagnostic use" in (model / "model_card.md").read_text()


def test_the_model_id_is_the_weights_own(model: Path, other_model: Path) -> None:
    bundle = read_bundle(Place(str(model)))
    assert bundle.model_id != read_bundle(Place(str(other_model))).model_id
    assert torch.is_tensor(read_weights(Place(str(model)), bundle)["conv1.weight"])


def test_weights_of_another_bundle_are_refused(copy: Path, other_model: Path) -> None:
    shutil.copy(other_model / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(BundleError, match="belongs to another bundle"):
        read_weights(Place(str(copy)), read_bundle(Place(str(copy))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocess_id": "0" * 16}, "images prepared otherwise"),
        ({"preprocess": {"crop": "robust", "size": 64, "sharpen": 2}}, "sharpen"),
        ({"architecture": "vit"}, "'vit' is not known"),
        ({"format": 99}, "newer btc-ray"),
    ],
)
def test_a_bundle_that_cannot_be_honoured_is_refused(copy: Path, change: dict[str, object], message: str) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(BundleError, match=message):
        read_bundle(Place(str(copy)))


@pytest.mark.parametrize("text", ["{", "[]", '{"classes": ["a"]}', "\xff"])
def test_a_description_that_is_none_is_refused(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(Place(str(copy)))


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a model bundle"):
        read_bundle(Place(str(tmp_path / "nowhere")))


def test_reading_a_description_loads_neither_torch_nor_ray(model: Path) -> None:
    code = (
        "import sys; from btc_ray.model.bundle import read_bundle; from btc_ray.storage import Place; "
        f"read_bundle(Place({str(model)!r})); sys.exit(any(name in sys.modules for name in ('torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DECISION = {
    "accept_distance": 20.0,
    "reject_distance": 30.0,
    "accept_confidence": 0.9,
    "accept_surround": 0.5,
    "reference_id": "0" * 16,
    "target_risk": 0.01,
    "risk_coverage": [{"coverage": 1.0, "accuracy": 0.9, "confidence": 0.5}],
    "confidence": [1] * 20,
    "distance_deciles": list(range(9)),
    "validation": {"images": 100, "accepted": 50, "wrong_among_accepted": 0, "wrong": 3},
}
INT8 = {"int8_id": "0" * 16, "passed": True, "images": 200, "labels_agree": 0.99, "largest_difference": 0.02}
NAN = float("nan")
WRONG: list[dict[str, object]] = [
    *({"classes": value} for value in (None, "abcd", [], ["a"], ["a", "a"], ["a", 1], ["a", " "], ["a", "b\x1b[2J"], ["a", "b" * 300])),
    *({"classes": value} for value in ({"a": 1}, [f"c{number}" for number in range(1001)])),
    *({"columns": value} for value in (["prob_a"], ["p"] * 4, 7)),
    *({"model_id": value} for value in (None, 12, ["x"])),
    *({"preprocess": value} for value in (None, [], "robust", {"size": 4096}, {"size": "64"}, {"size": 0}, {"crop": 7}, {"size": NAN})),
    *({"preprocess_id": value} for value in (None, 7)),
    *({"mean": value} for value in (None, [0.5], [0.5] * 4, ["a"] * 3, [NAN, 0, 0], [float("inf"), 0, 0], 0.5)),
    *({"std": value} for value in (None, [0.2, 0.2], [0, 0.2, 0.2], [-0.2] * 3, [NAN] * 3, [1e-30] * 3, {"r": 1})),
    *({"temperature": value} for value in (None, 0, -1, NAN, float("inf"), 1e-30, 1e30, "1", [1], True)),
    *({"test_time_flips": value} for value in (None, 1, "yes")),
    *({"decision": value} for value in (None, 1, [], {"accept_distance": 1})),
    *({"decision": {**DECISION, name: value}} for name in ("accept_distance", "reject_distance", "accept_confidence")
      for value in (None, NAN, "20", [1], -1)),
    {"decision": {**DECISION, "accept_distance": 31.0}},
    {"decision": {**DECISION, "distance_deciles": [3, 2, 1]}},
    {"decision": {**DECISION, "distance_deciles": ["a", 1]}},
    {"decision": {**DECISION, "validation": {"images": "many"}}},
    {"decision": {**DECISION, "validation": None}},
    {"decision": {**DECISION, "risk_coverage": 3}},
    {"decision": {**DECISION, "confidence": "x"}},
    *({"int8": value} for value in (None, 1, [], {"passed": True}, {**INT8, "images": "200"}, {**INT8, "passed": "no"})),
    *({"metrics": value} for value in (None, 1, [], {"test": None}, {"test": {"accuracy": "high", "images": 3}}, {"test": {"images": -1}})),
    *({"training": value} for value in (None, 1, [], {"seed": NAN})),
    *({"data": value} for value in (None, 1, [])),
    *({"versions": value} for value in (None, 1, {"torch": 2})),
    *({"created": value} for value in (None, 1, "\ud800")),
    *({"git_commit": value} for value in (1, ["x"])),
    *({"architecture": value} for value in (None, 18, [])),
    *({"format": value} for value in (None, "1", 1.5)),
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=[f"{next(iter(one))}-{number}" for number, one in enumerate(WRONG)])
def test_a_wrong_value_is_told_by_name_when_the_bundle_is_opened_and_nothing_is_scored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    content = json.loads((model / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(BundleError, match=r"bundle\.json") as raised:
        read_bundle(Place(str(folder)))
    assert "\x1b" not in str(raised.value)
    assert main(["info", str(folder)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_bundle_with_thresholds_and_an_int8_record_is_read(copy: Path) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    metrics = {"test": {"images": 0, "accuracy": None, "loss": None}}
    (copy / "bundle.json").write_text(json.dumps({**content, "decision": DECISION, "int8": INT8, "metrics": metrics}))
    bundle = read_bundle(Place(str(copy)))
    assert bundle.decision == DECISION
    assert bundle.int8 == INT8


def test_what_a_newer_version_wrote_is_kept(copy: Path) -> None:
    content = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**content, "sources": ["one", "two"]}))
    assert read_bundle(Place(str(copy))).to_dict()["sources"] == ["one", "two"]


def damaged(copy: Path, change: dict[str, np.ndarray | None]) -> Path:
    """The bundle with other tensors (None: without one), and the ids that belong to them."""
    arrays = {**load((copy / "model.safetensors").read_bytes()), **change}
    data = save({name: array for name, array in arrays.items() if array is not None})
    (copy / "model.safetensors").write_bytes(data)
    content = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**content, "model_id": weights_id(data)}))
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layer3.1.conv2.weight": np.full((256, 256, 3, 3), np.nan, np.float32)},
            "layer3.1.conv2.weight holds values that are not",
        ),
        ({"bn1.running_var": np.full(64, np.inf, np.float32)}, "bn1.running_var holds values that are not finite"),
        ({"fc.weight": np.zeros((3, 512), np.float32)}, r"fc.weight has the shape \(3, 512\), .* of 4 classes \(4, 512\)"),
        ({"layer1.0.conv1.weight": None}, "lacks 'layer1.0.conv1.weight'"),
        ({"fc.extra": np.zeros(1, np.float32)}, "has, as no ResNet18 does, 'fc.extra'"),
    ],
)
def test_weights_that_cannot_be_computed_with_are_refused_at_opening_and_by_info(
    copy: Path, change: dict[str, np.ndarray | None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(str(damaged(copy, change)))
    with pytest.raises(BundleError, match=message):
        read_arrays(place, read_bundle(place))
    assert main(["info", str(copy)]) == 2
    assert "model.safetensors" in capsys.readouterr().err


def test_the_shapes_of_a_resnet18_are_torchvisions() -> None:
    state = initial_network("none", 7, seed=0).state_dict()
    assert resnet18_shapes(7) == {name: tuple(tensor.shape) for name, tensor in state.items()}
