"""The folded ResNet18 as an OpenVINO graph, built from numpy arrays: no torch, no conversion."""

from dataclasses import replace

import numpy as np
import openvino as ov
from openvino import Node
from openvino import opset13 as ops

from btc_ray.model.engines.folding import Block, Convolution, Folded
from btc_ray.model.int8.form import Int8Block, Int8Network, Quantised


def resnet18(folded: Folded, *, stages: bool = False) -> ov.Model:
    """uint8 (N, 1, H, W) grey in, float32 (N, 512) out: what the head sees; with `stages` the means over the image of all four stages,
    float32 (N, 960), what the head sees last.

    The head is not in it: as the last operation it would be rounded to bf16 with the rest, and four dot products cost nothing.
    """
    pixels = ops.parameter([-1, 1, -1, -1], ov.Type.u8, name="pixels")
    x = ops.max_pool(ops.relu(_stem(pixels, folded)), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    left = []
    for block in folded.blocks:
        x = _block(x, block)
        left.append(x)
    return ov.Model([_pooled(left, stages=stages)], [pixels], "resnet18")


def int8_resnet18(folded: Folded, network: Int8Network, *, stages: bool = False) -> ov.Model:
    """The same with the blocks in 8 bits; the stem is `folded`'s, and the means are in units of the network's own."""
    input_scale = network.input_scale
    scaled = replace(
        folded,
        grey=folded.grey / input_scale.reshape(-1, 1, 1, 1),
        ones=folded.ones / input_scale.reshape(-1, 1, 1, 1),
        bias=folded.bias / input_scale,
    )
    pixels = ops.parameter([-1, 1, -1, -1], ov.Type.u8, name="pixels")
    x = ops.max_pool(ops.relu(_stem(pixels, scaled)), [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    left = []
    for block in network.blocks:
        x = _int8_block(x, block)
        left.append(x)
    return ov.Model([_pooled(left, stages=stages)], [pixels], "resnet18-int8")


def _pooled(left: list[Node], *, stages: bool) -> Node:
    """The mean over the image of what the last block leaves, or of what the second block of each stage leaves."""
    axes = np.array([2, 3])
    return (
        ops.concat([ops.reduce_mean(x, axes, False) for x in left[1::2]], 1) if stages else ops.reduce_mean(left[-1], axes, False)
    )


def _stem(pixels: Node, folded: Folded) -> Node:
    """Both parts of the stem as one convolution of four channels: the grey level twice and ones twice.

    The parts are large and of opposite sign, so weights rounded to bf16, 8 bits, moved probabilities by 0.03. Each weight is
    therefore the sum of two bf16 numbers, 16 bits; grey levels up to 255 are exact in bf16. Channels so few cost nothing: the
    convolution fills them up anyway.
    """
    level = ops.convert(pixels, "f32")
    ones = ops.broadcast(ops.constant(np.ones((1, 1, 1, 1), np.float32)), ops.shape_of(level))
    weight = np.concatenate([*_two_bf16(folded.grey), *_two_bf16(folded.ones)], axis=1)
    return _convolved(ops.concat([level, level, ones, ones], 1), Convolution(weight, folded.bias), stride=2)


def _block(x: Node, block: Block) -> Node:
    kept = x if block.shortcut is None else _convolved(x, block.shortcut, stride=block.stride)
    inner = ops.relu(_convolved(x, block.first, stride=block.stride))
    return ops.relu(ops.add(_convolved(inner, block.second, stride=1), kept))


def _int8_block(x: Node, block: Int8Block) -> Node:
    """What is kept beside the convolutions is not counted: it costs 3 % of the speed, and errors of the sum would stay in it for good."""
    counted = _counted(x, block.step)
    kept = x if block.shortcut is None else _int8_convolved(counted, block.shortcut, stride=block.stride)
    inner = _counted(ops.relu(_int8_convolved(counted, block.first, stride=block.stride)), block.inner_step)
    return ops.relu(ops.add(_int8_convolved(inner, block.second, stride=1), kept))


def _counted(x: Node, step: float) -> Node:
    """Rounded to the nearest of 0, 1, …, 255 steps."""
    low, high = ops.constant(np.float32(0)), ops.constant(np.float32(255 * step))
    return ops.fake_quantize(x, low, high, low, high, 256)


def _int8_convolved(x: Node, convolution: Quantised, *, stride: int) -> Node:
    weight = ops.multiply(
        ops.convert(ops.constant(convolution.weight), "f32"), ops.constant(convolution.scale.reshape(-1, 1, 1, 1))
    )
    padding = [convolution.weight.shape[2] // 2] * 2
    convolved = ops.convolution(x, weight, [stride] * 2, padding, padding, [1, 1])
    return ops.add(convolved, ops.constant(convolution.bias.reshape(1, -1, 1, 1)))


def _convolved(x: Node, convolution: Convolution, *, stride: int) -> Node:
    weight, bias = convolution
    padding = [weight.shape[2] // 2] * 2
    convolved = ops.convolution(x, ops.constant(weight), [stride] * 2, padding, padding, [1, 1])
    return ops.add(convolved, ops.constant(bias.reshape(1, -1, 1, 1)))


def _two_bf16(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 arrays that bf16 holds exactly and whose sum is `values` to 16 bits."""
    high = _bf16(values)
    return high, _bf16(values - high)


def _bf16(values: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest number of bf16, which is the upper half of a float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
