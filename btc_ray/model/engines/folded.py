"""The folded ResNet18 in torch: grey in, features out, no module and no torchvision.

Importing torchvision costs as much as importing torch (2 s), which a laptop run of 100 images would notice. The tests hold this
network to torchvision's.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from btc_ray.model.engines.folding import Block, Convolution, Folded, fold

Placed = tuple[Tensor, Tensor]  # weight and bias on the device
PlacedBlock = tuple[int, Placed, Placed, Placed | None]  # stride, first, second, shortcut


class FoldedResNet18:
    """uint8 grey (N, H, W) in, what the head sees out; a torchvision `resnet18` in evaluation mode, on any device. With `stages` the
    means over the image of all four stages, the one that the head sees last.

    Where `dtype` is half precision the stem and the mean over the image stay fp32, and with bf16 the first block too. The stem's two
    parts (see `folding.Folded`) are large and of opposite sign: bf16 throughout moved a fine-tuned model's probabilities by up to
    0.048 on real images, with the stem in fp32 by 0.023, with the first block as well by 0.013.
    """

    def __init__(self, folded: Folded, *, device: str, dtype: torch.dtype = torch.float32, stages: bool = False) -> None:
        self._device, self._dtype, self._folded, self._stages = device, dtype, folded, stages
        self._grey = torch.from_numpy(self._folded.grey).to(device, memory_format=torch.channels_last)
        self._borders: dict[tuple[int, int], Tensor] = {}
        self._exact = 1 if dtype == torch.bfloat16 else 0
        self._blocks = [
            self._placed(block, torch.float32 if number < self._exact else dtype)
            for number, block in enumerate(self._folded.blocks)
        ]

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 weight (classes, 512) and bias (classes,)."""
        return self._folded.head

    def features(self, grey: Tensor) -> Tensor:
        """What the last layer sees: float32 (N, 512); with `stages` what all four leave, float32 (N, 960)."""
        if not self._stages:
            return self.maps(grey).mean(dim=(2, 3))
        x, pooled = self.stem(grey), []
        for number in range(len(self._blocks)):
            x = self._through(x, number, number + 1)
            if number % 2:  # the second block of a stage
                pooled.append(x.mean(dim=(2, 3), dtype=torch.float32))
        return torch.cat(pooled, dim=1)

    def maps(self, grey: Tensor) -> Tensor:
        """What the last convolution leaves: float32 (N, 512, H/32, W/32)."""
        return self._through(self.stem(grey), 0, len(self._blocks)).float()

    def _through(self, x: Tensor, first: int, end: int) -> Tensor:
        """Blocks `first` up to `end`; the exact ones come first."""
        for number in range(first, end):
            x = _block(x if number < self._exact else x.to(self._dtype), self._blocks[number])
        return x

    def stem(self, grey: Tensor) -> Tensor:
        """What the first block sees: float32 (N, 64, H/4, W/4)."""
        x = F.conv2d(grey.unsqueeze(1).float(), self._grey, stride=2, padding=3)
        x = x.add_(self._border(grey.shape[1], grey.shape[2])).relu_()
        return F.max_pool2d(x.contiguous(memory_format=torch.channels_last), 3, stride=2, padding=1)

    def _border(self, height: int, width: int) -> Tensor:
        """The part of the stem that no grey level changes: float32 (1, 64, H/2, W/2), computed once per image size."""
        if (height, width) not in self._borders:
            ones, bias = torch.from_numpy(self._folded.ones), torch.from_numpy(self._folded.bias)
            border = F.conv2d(torch.ones(1, 1, height, width), ones, bias, stride=2, padding=3)
            self._borders[height, width] = border.to(self._device, memory_format=torch.channels_last)
        return self._borders[height, width]

    def _placed(self, block: Block, dtype: torch.dtype) -> PlacedBlock:
        def placed(convolution: Convolution) -> Placed:
            weight, bias = (torch.from_numpy(array).to(self._device, dtype) for array in convolution)
            return weight.contiguous(memory_format=torch.channels_last), bias

        return block.stride, placed(block.first), placed(block.second), block.shortcut and placed(block.shortcut)


def _block(x: Tensor, block: PlacedBlock) -> Tensor:
    stride, first, second, shortcut = block
    kept = x if shortcut is None else F.conv2d(x, *shortcut, stride=stride)
    x = F.conv2d(x, *first, stride=stride, padding=1).relu_()
    return F.conv2d(x, *second, padding=1).add_(kept).relu_()


def folded_network(
    state: Mapping[str, Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
    dtype: torch.dtype = torch.float32,
    stages: bool = False,
) -> FoldedResNet18:
    """Of the state of a torchvision `resnet18`, as `fold` takes it."""
    arrays = {name: tensor.detach().float().cpu().numpy() for name, tensor in state.items()}
    return FoldedResNet18(fold(arrays, mean=mean, std=std), device=device, dtype=dtype, stages=stages)
