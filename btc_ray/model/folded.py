"""ResNet18 for inference alone: BatchNorm and normalisation folded into the convolutions, grey in, no module and no torchvision.

Importing torchvision costs as much as importing torch (2 s), which a laptop run of 100 images would notice. The tests hold this
network to torchvision's.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

EPSILON = 1e-5  # of torchvision's BatchNorm

Convolution = tuple[Tensor, Tensor]  # weight, bias


class FoldedResNet18:
    """uint8 grey (N, H, W) in, logits (N, classes) out. State of a torchvision `resnet18` in evaluation mode, on any device.

    The three equal channels of a grey image are affine in its grey level, x_c = scale_c · g + shift_c, so the first convolution
    over them is one convolution of g plus that of the constant part. The constant part is not a bias: the network pads with
    zeros after normalisation, so it differs along the border; it is computed once per image size.
    """

    def __init__(self, state: Mapping[str, Tensor], *, mean: Sequence[float], std: Sequence[float], device: str) -> None:
        self._device = device
        deviation = torch.tensor(std).view(1, 3, 1, 1)
        weight, bias = _fold(state, "conv1", "bn1")
        self._grey = self._placed(((weight / (255 * deviation)).sum(1, keepdim=True), bias))
        self._constant = -(weight * torch.tensor(mean).view(1, 3, 1, 1) / deviation).sum(1, keepdim=True)
        self._borders: dict[tuple[int, int], Tensor] = {}
        self._blocks = [self._block(state, f"layer{layer}.{block}") for layer in (1, 2, 3, 4) for block in (0, 1)]
        self._head = (state["fc.weight"].to(device, torch.float32), state["fc.bias"].to(device, torch.float32))

    @property
    def classes(self) -> int:
        return len(self._head[1])

    def __call__(self, grey: Tensor) -> Tensor:
        return F.linear(self.features(grey), *self._head)

    def features(self, grey: Tensor) -> Tensor:
        """What the last layer sees: (N, 512)."""
        x = grey.unsqueeze(1).float()
        weight, _ = self._grey
        x = F.conv2d(x, weight, stride=2, padding=3).add_(self._border(x.shape[2], x.shape[3])).relu_()
        x = F.max_pool2d(x.contiguous(memory_format=torch.channels_last), 3, stride=2, padding=1)
        for number, (first, second, shortcut) in enumerate(self._blocks):
            stride = 2 if number in (2, 4, 6) else 1  # each later layer begins with a step of two
            kept = x if shortcut is None else F.conv2d(x, *shortcut, stride=stride)
            x = F.conv2d(x, *first, stride=stride, padding=1).relu_()
            x = F.conv2d(x, *second, padding=1).add_(kept).relu_()
        return x.mean(dim=(2, 3))

    def _border(self, height: int, width: int) -> Tensor:
        """The first convolution's constant part with its bias: float32 (1, 64, H/2, W/2)."""
        if (height, width) not in self._borders:
            with torch.autocast(self._device, enabled=False):
                ones = torch.ones(1, 1, height, width)
                border = F.conv2d(ones, self._constant, self._grey[1].float().cpu(), stride=2, padding=3)
            self._borders[height, width] = border.to(self._device, memory_format=torch.channels_last)
        return self._borders[height, width]

    def _block(self, state: Mapping[str, Tensor], name: str) -> tuple[Convolution, Convolution, Convolution | None]:
        shortcut = f"{name}.downsample"
        return (
            self._placed(_fold(state, f"{name}.conv1", f"{name}.bn1")),
            self._placed(_fold(state, f"{name}.conv2", f"{name}.bn2")),
            self._placed(_fold(state, f"{shortcut}.0", f"{shortcut}.1")) if f"{shortcut}.0.weight" in state else None,
        )

    def _placed(self, convolution: Convolution) -> Convolution:
        weight, bias = convolution
        return weight.to(self._device, memory_format=torch.channels_last), bias.to(self._device)


def _fold(state: Mapping[str, Tensor], convolution: str, batchnorm: str) -> Convolution:
    """Weight and bias of a convolution with the BatchNorm after it folded in. Raises KeyError for a state that lacks them."""
    mean, variance, gamma, beta = (
        state[f"{batchnorm}.{name}"].float() for name in ("running_mean", "running_var", "weight", "bias")
    )
    weight, bias = fuse_conv_bn_weights(state[f"{convolution}.weight"].float(), None, mean, variance, EPSILON, gamma, beta)
    return weight.detach(), bias.detach()
