"""What a GPU's arithmetic does to the answers, computed on a CPU: `python -m benchmarks.gpu_arithmetic --data DATA --model BUNDLE`.

Since Ampere a GPU computes fp32 convolutions in TF32, with 10 bits of mantissa, unless told otherwise; in half precision the engine lets
it, for the stem and what else stays fp32 (see `model.folded`). Products of two TF32 numbers are summed up in fp32, so rounding what goes
into a convolution is all the difference.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.engines import crops_of
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import read_arrays, read_bundle
from btc_ray.model.engines.folded import FoldedResNet18
from btc_ray.model.engines.folding import fold, softmax
from btc_ray.storage import Place

WAYS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class InTF32(TorchFunctionMode):
    """fp32 convolutions with their inputs and weights rounded to 10 bits of mantissa, to the nearest."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and args[0].dtype == torch.float32:
            args = (_rounded(args[0]), _rounded(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def _rounded(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    chosen = parser.parse_args()
    bundle = read_bundle(Place(chosen.model))
    folded = fold(read_arrays(Place(chosen.model), bundle), mean=bundle.mean, std=bundle.std)
    files = sorted(path for path in (Path(chosen.data) / "Testing").rglob("*") if path.is_file())
    crops = torch.from_numpy(crops_of(files, Preprocess.from_dict(bundle.preprocess)))

    def probabilities(dtype: torch.dtype, *, tf32: bool) -> np.ndarray:
        network = FoldedResNet18(folded, device="cpu", dtype=dtype)
        network.stem(crops[:1])  # the part that no grey level changes is computed on the CPU, once, and kept
        with torch.inference_mode(), InTF32() if tf32 else nullcontext():
            features = torch.cat([network.features(batch) for batch in crops.split(32)]).numpy()
        weight, bias = folded.head
        return softmax(features @ weight.T + bias, bundle.temperature)

    exact = probabilities(torch.float32, tf32=False)
    print(f"Agreement with fp32 on {len(crops):,} images of {crops.shape[1]} px\n")
    print(
        "| arithmetic | labels that agree | largest difference of a probability | mean of an image's largest |\n|---|---|---|---|"
    )
    ways = [("fp32 in TF32", torch.float32, True)]
    for name, dtype in WAYS.items():
        ways += [(name, dtype, False), (f"{name}, the rest in TF32", dtype, True)]
    for name, dtype, tf32 in ways:
        found = probabilities(dtype, tf32=tf32)
        labels = (found.argmax(axis=1) == exact.argmax(axis=1)).mean()
        differences = np.abs(found - exact).max(axis=1)
        print(f"| {name} | {labels:.2%} | {differences.max():.4f} | {differences.mean():.5f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
