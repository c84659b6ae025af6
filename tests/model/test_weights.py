"""Initial weights are found, checked and never executed."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.resnet import ResNet18_Weights

from btc_ray.model import weights
from btc_ray.model.errors import WeightsError
from btc_ray.model.network import build_network
from btc_ray.model.weights import initial_network, read_state
from btc_ray.storage import Place


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("evil-was-here"),)


def test_no_weights_are_random_but_the_same_for_the_same_seed() -> None:
    first, again, other = (initial_network("none", 4, seed=seed).state_dict()["conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("end", ["pth", "safetensors"])
def test_a_state_dict_of_another_number_of_classes_keeps_its_backbone_and_gets_a_fresh_head(tmp_path: Path, end: str) -> None:
    state = build_network(1000).state_dict()
    file = tmp_path / f"weights.{end}"
    save_file(state, file) if end == "safetensors" else torch.save({"state_dict": state}, file)
    network = initial_network(str(file), 4, seed=0)
    assert torch.equal(network.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    assert network.fc.weight.shape == (4, 512)


def test_a_state_dict_of_the_same_number_of_classes_keeps_its_head(tmp_path: Path) -> None:
    state = build_network(4).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    assert torch.equal(initial_network(str(tmp_path / "weights.pth"), 4, seed=0).fc.weight, state["fc.weight"])


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": _Evil()}))
    with pytest.raises(WeightsError, match="could run code"):
        read_state(Place(str(tmp_path / "evil.pth")))
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "misses layer1.0.conv1.weight"),
        (lambda state: state.update({"layer9.weight": torch.zeros(1)}), "unknown layer9.weight"),
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), "other shapes for conv1.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, change: object, message: str) -> None:
    state = dict(build_network(4).state_dict())
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        initial_network(str(tmp_path / "weights.pth"), 4, seed=0)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(WeightsError, match=r"no-such\.pth"):
        initial_network("no-such.pth", 4, seed=0)


def test_without_network_the_error_names_the_file_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A host that cannot exist gives the same error on a machine that has a network.
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", "http://weights.invalid/resnet18-f37072fd.pth")
    with pytest.raises(WeightsError) as caught:
        initial_network("imagenet", 4, seed=0)
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)
    assert "--weights none" in str(caught.value)


def test_a_damaged_cached_file_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights.imagenet_file().parent.mkdir(parents=True)
    weights.imagenet_file().write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="damaged"):
        initial_network("imagenet", 4, seed=0)
