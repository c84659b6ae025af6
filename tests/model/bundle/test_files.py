"""A bundle is read without executing code, and a damaged or foreign one is refused in words."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from btc_ray.model.bundle import BundleError, read_bundle, read_weights
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
