"""BatchNorm over the global batch for several CPU workers: torch's own SyncBatchNorm runs on GPUs alone.

With it the number of workers changes a result by rounding only.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """A tensor summed over all workers; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm2d whose training statistics are those of all workers' images together, in float32; it gives the type it is given."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        given = input.dtype
        input = input.float()  # noqa: A001 - sums in half precision would lose images; the running statistics are float32
        sums = torch.cat([input.sum(dim=(0, 2, 3)), input.new_tensor([input.numel() / input.shape[1]])])
        sums = _Sum.apply(sums)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = input - mean.view(1, -1, 1, 1)
        variance = _Sum.apply((centred * centred).sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(given)


def with_global_batchnorm(network: nn.Module) -> nn.Module:
    """The same network, each of its BatchNorm layers one over the global batch; parameters and buffers are shared, not copied."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            layer = GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            layer.weight, layer.bias = child.weight, child.bias
            layer._buffers.update(child._buffers)
            setattr(network, name, layer.train(child.training))
        else:
            with_global_batchnorm(child)
    return network
