"""ResNet18 made ready for inference: BatchNorm and the normalisation of pixels folded into the convolutions, as numpy arrays.

Every engine computes with these arrays, so that they differ in arithmetic alone. Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

EPSILON = 1e-5  # of torchvision's BatchNorm
STAGES = (64, 128, 256, 512)  # channels of the four stages, each two blocks
FEATURES = STAGES[-1]  # what the head sees of an image: the last stage, pooled
POOLED = sum(STAGES)  # all four stages, pooled, one behind the other


class Convolution(NamedTuple):
    """float32 weight (out, in, k, k) and bias (out,)."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Block:
    """relu(second(relu(first(x))) + shortcut(x)), 3×3 both; `first` and the 1×1 `shortcut`, where there is one, step by `stride`."""

    name: str
    stride: int
    first: Convolution
    second: Convolution
    shortcut: Convolution | None


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The network: a 7×7 stem of stride 2, 3×3 max pooling of stride 2, eight blocks, the mean over the image, a linear head.

    The three equal channels of a grey image are affine in its grey level, x_c = scale_c · g + shift_c, so the stem is one
    convolution `grey` (64, 1, 7, 7) of the level, 0 to 255, plus one `ones` (64, 1, 7, 7) of an image of ones, plus `bias` (64,).
    The second is not a bias: the network pads with zeros after normalisation, so it differs along the border.
    """

    grey: np.ndarray
    ones: np.ndarray
    bias: np.ndarray
    blocks: tuple[Block, ...]
    head: tuple[np.ndarray, np.ndarray]


def fold(state: Mapping[str, np.ndarray], *, mean: Sequence[float], std: Sequence[float]) -> Folded:
    """Fold the state of a torchvision `resnet18`. Raises KeyError for a state that is none."""
    weight, bias = _fold(state, "conv1", "bn1")
    scaled = weight / np.array(std, np.float32).reshape(1, 3, 1, 1)
    return Folded(
        grey=(scaled / 255).sum(axis=1, keepdims=True),
        ones=-(scaled * np.array(mean, np.float32).reshape(1, 3, 1, 1)).sum(axis=1, keepdims=True),
        bias=bias,
        blocks=tuple(_block(state, layer, number) for layer in (1, 2, 3, 4) for number in (0, 1)),
        head=(state["fc.weight"].astype(np.float32), state["fc.bias"].astype(np.float32)),
    )


def views(pixels: np.ndarray, *, flips: bool) -> np.ndarray:
    """uint8 (N, H, W) as they are, or with `flips` (4N, H, W): as they are, left-right, up-down and both."""
    if not flips:
        return np.ascontiguousarray(pixels)
    return np.concatenate([pixels, pixels[:, :, ::-1], pixels[:, ::-1], pixels[:, ::-1, ::-1]])


def mean_of_views(features: np.ndarray, *, flips: bool) -> np.ndarray:
    """(N, F) of the features of `views`. The head is linear: the logits of the mean are the mean of the logits."""
    return features.reshape(4, -1, features.shape[1]).mean(axis=0) if flips else features


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 (N, classes) probabilities of logits divided by a temperature."""
    scaled = logits.astype(np.float32) / np.float32(temperature)
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _block(state: Mapping[str, np.ndarray], layer: int, number: int) -> Block:
    name = f"layer{layer}.{number}"
    shortcut = f"{name}.downsample"
    return Block(
        name=name,
        stride=2 if layer > 1 and number == 0 else 1,
        first=_fold(state, f"{name}.conv1", f"{name}.bn1"),
        second=_fold(state, f"{name}.conv2", f"{name}.bn2"),
        shortcut=_fold(state, f"{shortcut}.0", f"{shortcut}.1") if f"{shortcut}.0.weight" in state else None,
    )


def _fold(state: Mapping[str, np.ndarray], convolution: str, batchnorm: str) -> Convolution:
    mean, variance, gamma, beta = (
        state[f"{batchnorm}.{name}"].astype(np.float32) for name in ("running_mean", "running_var", "weight", "bias")
    )
    scale = gamma / np.sqrt(variance + np.float32(EPSILON))
    weight = state[f"{convolution}.weight"].astype(np.float32) * scale.reshape(-1, 1, 1, 1)
    return Convolution(weight, beta - mean * scale)
