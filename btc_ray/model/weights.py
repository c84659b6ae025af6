"""Initial weights: torchvision's ImageNet weights (hash-checked, cached), a state dict from any URI, or none.

Nothing here executes code from a file: safetensors, or `torch.load(weights_only=True)`.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from btc_ray.model.errors import WeightsError, weights_not_found
from btc_ray.model.network import build_network
from btc_ray.storage import Options, Place
from btc_ray.storage.retries import explain

if TYPE_CHECKING:
    from torchvision.models.resnet import ResNet


def imagenet_file() -> Path:
    """Where torch keeps torchvision's ResNet18 weights on this machine (`$TORCH_HOME/hub/checkpoints`)."""
    from torchvision.models.resnet import ResNet18_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]


def initial_network(weights: str, num_classes: int, *, seed: int, options: Options = None) -> "ResNet":
    """A ResNet18 to start training from.

    `weights` is `imagenet`, `none` (random, from `seed`) or the URI of a ResNet18 state dict (`.safetensors`, or a
    torch file that holds nothing but tensors). A head of another number of classes is replaced by a fresh one.
    Raises WeightsError.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(num_classes)
    if weights == "none":
        return network
    state = _imagenet_state() if weights == "imagenet" else read_state(Place(weights, options or {}))
    _check_fits(state, network, weights)
    fresh = network.state_dict()
    if state.get("fc.weight", fresh["fc.weight"]).shape != fresh["fc.weight"].shape:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    network.load_state_dict({**fresh, **state})
    return network


def read_state(file: Place) -> dict[str, Tensor]:
    """The tensors of a state dict file, on the CPU. Raises WeightsError where it is missing or is not plain tensors."""
    try:
        data = file.read()
    except FileNotFoundError as error:
        raise weights_not_found(file) from error
    except OSError as error:
        raise WeightsError(f"--weights {file} cannot be read: {explain(error)}.") from error
    return parse_state(data, str(file))


def parse_state(data: bytes, name: str) -> dict[str, Tensor]:
    """`read_state` for bytes already read; `name` is used in messages and tells safetensors from torch files."""
    try:
        if name.endswith(".safetensors"):
            return load_safetensors(data)
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{name} is not a file of plain tensors, and loading anything else could run code hidden in it. "
            "Save it as safetensors or with torch.save(model.state_dict())."
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{name} holds no state dict. Save one with torch.save(model.state_dict()).")
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _imagenet_state() -> dict[str, Tensor]:
    from torchvision.models.resnet import ResNet18_Weights

    url, path = ResNet18_Weights.IMAGENET1K_V1.url, imagenet_file()
    expected = path.stem.rpartition("-")[2]  # torchvision names its files by the first 8 hex digits of their sha256
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=expected, progress=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"torchvision's ImageNet weights could not be fetched ({error}).\n"
            f"  On a machine with network: download {url}\n"
            f"  Put the file here:         {path}\n"
            "  Or start without them:     --weights none, or --weights FILE with a ResNet18 state dict of your own."
        ) from error
    data = path.read_bytes()
    if not hashlib.sha256(data).hexdigest().startswith(expected):
        raise WeightsError(f"{path} is damaged: its sha256 does not begin with {expected}. Delete it and run again.")
    return parse_state(data, path.name)


def _check_fits(state: Mapping[str, Tensor], network: "ResNet", name: str) -> None:
    """Everything but the head has to be there with the right shape."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    given = {key: value for key, value in state.items() if not key.startswith("fc.")}
    missing = sorted(own.keys() - given.keys() - {key for key in own if key.endswith("num_batches_tracked")})
    unknown = sorted(given.keys() - own.keys())
    misshapen = sorted(key for key in own.keys() & given.keys() if own[key].shape != given[key].shape)
    for what, keys in (("misses", missing), ("has the unknown", unknown), ("has other shapes for", misshapen)):
        if keys:
            raise WeightsError(f"{name} is not a ResNet18 state dict: it {what} {', '.join(keys[:3])} ({len(keys)} in all).")
