"""Post-training quantisation: the folded network and some crops → the network in 8 bits (see form.py).

Block by block: activations are counted in steps that cut off nothing, and each convolution is rounded one input at a time, the error of
each made good by those still to come, on what the convolutions before it really leave in 8 bits. Its bias then makes the mean right.
No gradients; the crops are those that the model learned from.

Sources: Frantar et al., GPTQ, ICLR 2023 (the rounding); Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
Correction, ICCV 2019 (units of a channel, the bias).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from btc_ray.model.engines.folded import FoldedResNet18
from btc_ray.model.engines.folding import Block, Convolution, Folded
from btc_ray.model.int8.form import Int8Block, Int8Network, Quantised

LEVELS, WEIGHT = 255, 127  # of an activation, which is never negative, and of a weight, to either side
EQUALISED = 0.5  # 0: every channel at the same scale; 1: all channels of equal range, at the cost of the weights
UNITS = 16.0  # the largest unit, and one over the smallest
HEADROOM = 1.25  # clipping large activations loses less on average, but moved the few images that have them ten times as far
ROWS = 8  # positions to learn a rounding from, for each input of a convolution
RIDGE = 0.01  # of the mean square of an input, added to all
COLUMNS = 128  # inputs rounded before the later ones hear of it: one large product instead of many small


def quantise(folded: Folded, pixels: np.ndarray) -> Int8Network:
    """The network in 8 bits, from uint8 crops (N, H, W), N at least 1."""
    with torch.inference_mode():
        exact = FoldedResNet18(folded, device="cpu").stem(torch.from_numpy(np.ascontiguousarray(pixels)))
        units = _units(folded, exact)
        found, blocks = exact / _across(units[0][0]), []
        for block, of_block in zip(folded.blocks, units, strict=True):
            made, exact, found = _block(block, exact, found, of_block)
            blocks.append(made)
        return Int8Network(
            input_scale=units[0][0].numpy(),
            output_scale=units[-1][2].numpy(),
            blocks=tuple(blocks),
            stage_scale=torch.cat([leaving for _, _, leaving in units[1::2]]).numpy(),  # of each stage's second block
        )


def _block(block: Block, exact: Tensor, found: Tensor, units: tuple[Tensor, Tensor, Tensor]) -> tuple[Int8Block, Tensor, Tensor]:
    """A block in 8 bits, and its output: `exact` as in fp32, `found` in 8 bits and in units of its own.

    `units`: of the channels of its input, between its convolutions, and of its output.
    """
    entering, inner, leaving = units
    first, second = _in_units(block.first, entering, inner), _in_units(block.second, inner, leaving)
    shortcut = None if block.shortcut is None else _in_units(block.shortcut, entering, leaving)
    step = _step(found)
    seen = _counted(found, step)
    wanted = _convolved(exact, block.first, block.stride)
    first_made, found_inner = _convolution(first, seen, wanted / _across(inner), block.stride)
    wanted, found_inner = wanted.relu_(), found_inner.relu_()
    inner_step = _step(found_inner)
    seen_inner = _counted(found_inner, inner_step)
    if block.shortcut is None or shortcut is None:
        shortcut_made, kept, wanted_kept = None, found, exact
    else:
        wanted_kept = _convolved(exact, block.shortcut, block.stride)
        shortcut_made, kept = _convolution(shortcut, seen, wanted_kept / _across(leaving), block.stride)
    wanted = _convolved(wanted, block.second, 1).add_(wanted_kept)
    # What is kept has errors of its own: the bias makes the sum right.
    second_made, left = _convolution(second, seen_inner, wanted / _across(leaving) - kept, 1)
    made = Int8Block(
        name=block.name,
        stride=block.stride,
        step=step,
        inner_step=inner_step,
        first=first_made,
        second=second_made,
        shortcut=shortcut_made,
    )
    return made, wanted.relu_(), left.add_(kept).relu_()


def _units(folded: Folded, entering: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The units of each block's channels, float32 (C,): of its input, between its convolutions, and of its output.

    What is added has to be counted in the same units, so those of a block's output are its input's unless a shortcut stands between.
    """
    x, inners, numbers = entering, [], []  # `numbers`: which stream each block reads
    streams: list[tuple[list[Tensor], list[Convolution]]] = [
        ([_largest_activation(entering)], [])
    ]  # how largest, and who reads it
    for block in folded.blocks:
        inner = _convolved(x, block.first, block.stride).relu_()
        inners.append(_unit([_largest_activation(inner)], [block.second]))
        numbers.append(len(streams) - 1)
        streams[-1][1].append(block.first)
        kept = x
        if block.shortcut is not None:
            kept = _convolved(x, block.shortcut, block.stride)
            streams[-1][1].append(block.shortcut)
            streams.append(([], []))
        x = _convolved(inner, block.second, 1).add_(kept).relu_()
        streams[-1][0].append(_largest_activation(x))
    found = [_unit(*stream) for stream in streams]
    numbers.append(len(streams) - 1)
    return [(found[numbers[place]], inner, found[numbers[place + 1]]) for place, inner in enumerate(inners)]


def _unit(activations: list[Tensor], readers: list[Convolution]) -> Tensor:
    """Channels of large activations get a larger scale, so that the others use more than the lowest levels; those with large weights a
    smaller one."""
    largest = torch.stack(activations).amax(dim=0)
    weight = torch.from_numpy(np.max([np.abs(reader.weight).max(axis=(0, 2, 3)) for reader in readers], axis=0))
    unit, used = torch.ones_like(largest), (largest > 0) & (weight > 0)
    if used.any():
        unit[used] = largest[used] ** EQUALISED / weight[used] ** (1 - EQUALISED)
        unit[used] /= unit[used].log().mean().exp()
    return unit.clamp_(1 / UNITS, UNITS)


def _largest_activation(x: Tensor) -> Tensor:
    """What one value in ten thousand of each channel exceeds: float32 (C,)."""
    flat = x.transpose(0, 1).flatten(1)
    return flat.topk(max(1, flat.shape[1] // 10_000), dim=1).values[:, -1].contiguous()


def _step(x: Tensor) -> float:
    """What a level is worth: none of these crops is cut off, and there is room for louder ones."""
    return float(np.float32(max(float(x.max()), 1e-6) * HEADROOM / LEVELS))


def _counted(x: Tensor, step: float) -> Tensor:
    return (x / step).round_().clamp_(0, LEVELS).mul_(step)


def _convolution(convolution: Convolution, x: Tensor, wanted: Tensor, stride: int) -> tuple[Quantised, Tensor]:
    """The convolution in 8 bits, with the bias that gives what it makes of `x` the mean of `wanted`, and what it makes."""
    weight = torch.from_numpy(convolution.weight)
    flat = weight.flatten(1)
    scale = flat.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12) / WEIGHT
    covariance = _covariance(x, weight.shape[2], stride)
    rounded = (flat / scale).round() if covariance is None else _rounded(flat, scale, covariance)
    made = (rounded * scale).view_as(weight)
    left = F.conv2d(x, made, stride=stride, padding=weight.shape[2] // 2)
    bias = (wanted - left).mean(dim=(0, 2, 3))
    whole = rounded.view_as(weight).to(torch.int8).numpy()
    return Quantised(weight=whole, scale=scale[:, 0].numpy().copy(), bias=bias.numpy()), left.add_(_across(bias))


def _covariance(x: Tensor, side: int, stride: int) -> Tensor | None:
    """Of the inputs of a convolution at some positions of all crops: float32 (K, K); None where these are fewer than K, which would
    be learned by heart."""
    inputs = x.shape[1] * side * side
    positions = -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
    if positions * len(x) < inputs:
        return None
    each = min(positions, -(-ROWS * inputs // len(x)))
    chance, products, total, rows = torch.Generator().manual_seed(0), torch.zeros(inputs, inputs), torch.zeros(inputs), 0
    for some in x.split(16):
        chosen = torch.randperm(positions, generator=chance)[:each]
        seen = F.unfold(some, side, padding=side // 2, stride=stride)[:, :, chosen].transpose(0, 1).flatten(1)
        products.addmm_(seen, seen.T)
        total += seen.sum(dim=1)
        rows += seen.shape[1]
    covariance = products.div_(rows).addr_(total / rows, total / rows, alpha=-1)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean() + 1e-8)
    return covariance


def _rounded(weight: Tensor, scale: Tensor, covariance: Tensor) -> Tensor:
    """Whole numbers (out, K): `weight` over `scale`, rounded so that the products with inputs of this covariance change little."""
    order = covariance.diagonal().argsort(descending=True)  # the largest first, while many are left to make good
    weight, rounded = weight[:, order], torch.empty_like(weight)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))[order][:, order]
    inverse = torch.linalg.cholesky(inverse, upper=True)
    for begin in range(0, weight.shape[1], COLUMNS):
        end = min(begin + COLUMNS, weight.shape[1])
        errors = torch.empty(len(weight), end - begin)
        for column in range(begin, end):
            whole = (weight[:, column] / scale[:, 0]).round_().clamp_(-WEIGHT, WEIGHT)
            error = (weight[:, column] - whole * scale[:, 0]) / inverse[column, column]
            weight[:, column + 1 : end] -= error[:, None] * inverse[column, column + 1 : end]
            errors[:, column - begin], rounded[:, order[column]] = error, whole
        weight[:, end:] -= errors @ inverse[begin:end, end:]
    return rounded


def _in_units(convolution: Convolution, entering: Tensor, leaving: Tensor) -> Convolution:
    """The same convolution of channels counted in other units."""
    into, out = entering.numpy().reshape(1, -1, 1, 1), leaving.numpy()
    return Convolution(np.ascontiguousarray(convolution.weight * into / out.reshape(-1, 1, 1, 1)), convolution.bias / out)


def _convolved(x: Tensor, convolution: Convolution, stride: int) -> Tensor:
    weight, bias = (torch.from_numpy(np.ascontiguousarray(array)) for array in convolution)
    return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[2] // 2)


def _across(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1)
