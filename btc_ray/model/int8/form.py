"""The int8 form of a bundle's network, as `int8.safetensors` holds it: weights of 8 bits, and the steps that activations are counted in.

It is made once, at the end of a training (see quantise.py), and only ever used where the bundle's record of it allows.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

INT8 = "int8.safetensors"
# Beside fp32, on validation images. The largest difference grows with the number of images: of others it is to be 0.05 at most.
LABELS_AGREE, LARGEST_DIFFERENCE, LEAST_IMAGES = 0.995, 0.03, 200


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """A convolution of 8-bit `weight` (out, in, k, k) int8, −127 to 127, each output channel in units of `scale` float32 (out,), and
    `bias` float32 (out,)."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Int8Block:
    """A block of `folding.Block`; `step` and `inner_step` are what one of the 255 levels of its input, and of what stands between its
    convolutions, is worth."""

    name: str
    stride: int
    step: float
    inner_step: float
    first: Quantised
    second: Quantised
    shortcut: Quantised | None


@dataclass(frozen=True, kw_only=True)
class Int8Network:
    """Eight blocks between a stem and a mean that stay as they are.

    Each channel has a scale of its own, so that channels of small activations use all 255 levels too: the output of the stem is
    divided by `input_scale` float32 (64,), the features are multiplied by `output_scale` float32 (512,). In the file these are called
    `enters` and `leaves`, as they were in the first bundles. `stage_scale` float32 (960,): the same for what each stage leaves, the last
    as `output_scale`; None in bundles whose distances are measured from the last stage alone.
    """

    input_scale: np.ndarray
    output_scale: np.ndarray
    blocks: tuple[Int8Block, ...]
    stage_scale: np.ndarray | None = None

    def scale_of(self, *, stages: bool) -> np.ndarray:
        """What the pooled features are multiplied by; of all stages where `stage_scale` is known."""
        if not stages:
            return self.output_scale
        assert self.stage_scale is not None
        return self.stage_scale

    def to_bytes(self) -> bytes:
        """As `int8.safetensors` holds it."""
        from safetensors.numpy import save

        arrays = {"enters": self.input_scale, "leaves": self.output_scale}
        arrays |= {} if self.stage_scale is None else {"stages": self.stage_scale}
        for block in self.blocks:
            arrays[f"{block.name}.steps"] = np.array([block.stride, block.step, block.inner_step], np.float32)
            for part in ("first", "second", "shortcut"):
                quantised = getattr(block, part)
                if quantised is not None:
                    arrays |= {f"{block.name}.{part}.{name}": array for name, array in vars(quantised).items()}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Int8Network":
        """Of what `int8.safetensors` holds. Raises KeyError or ValueError for anything else."""
        names = sorted(name.removesuffix(".steps") for name in arrays if name.endswith(".steps"))
        blocks = tuple(_block(arrays, name) for name in names)
        return cls(input_scale=arrays["enters"], output_scale=arrays["leaves"], blocks=blocks, stage_scale=arrays.get("stages"))


def _block(arrays: Mapping[str, np.ndarray], name: str) -> Int8Block:
    stride, step, inner_step = (float(value) for value in arrays[f"{name}.steps"])
    return Int8Block(
        name=name,
        stride=int(stride),
        step=step,
        inner_step=inner_step,
        first=_quantised(arrays, f"{name}.first"),
        second=_quantised(arrays, f"{name}.second"),
        shortcut=_quantised(arrays, f"{name}.shortcut") if f"{name}.shortcut.weight" in arrays else None,
    )


def _quantised(arrays: Mapping[str, np.ndarray], name: str) -> Quantised:
    return Quantised(**{part: arrays[f"{name}.{part}"] for part in ("weight", "scale", "bias")})


def agreement(exact: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """How probabilities (N, classes) of the int8 network agree with those of fp32, and whether that passes: enough images, nearly all
    labels the same, and no probability far off."""
    labels = float((exact.argmax(axis=1) == found.argmax(axis=1)).mean()) if len(exact) else 0.0
    largest = float(np.abs(exact - found).max(initial=0.0))
    return {
        "images": len(exact),
        "labels_agree": labels,
        "largest_difference": largest,
        # Asked this way round, what is not a number does not pass.
        "passed": len(exact) >= LEAST_IMAGES and labels >= LABELS_AGREE and largest <= LARGEST_DIFFERENCE,
    }


def agreement_in_words(int8: Mapping[str, Any]) -> str:
    """The record of a bundle, for a reader."""
    if not int8:
        return "There is no int8 form."
    return (
        f"Beside fp32 on {int8['images']:,} validation images {int8['labels_agree']:.2%} of the labels agree and no probability differs "
        f"by more than {int8['largest_difference']:.3f}: "
        + ("used where the CPU has VNNI." if int8["passed"] else "not used unless --precision int8 asks for it.")
    )


def int8_id(data: bytes) -> str:
    """The first 16 hex digits of the sha256 of `int8.safetensors`."""
    return hashlib.sha256(data).hexdigest()[:16]
