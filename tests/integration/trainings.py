"""`btc-ray retrain` in this process, and what one training hands on to the next."""

import shutil
from pathlib import Path

from btc_ray.cli import main

SIZE = ("--size", "64")
# In fp32: in bf16 the sum of a gradient depends, in its third digit, on how many workers share the batch.
HEAD = ("--train", "head", *SIZE, "--epochs", "4", "--learning-rate", "0.01", "--precision", "fp32")


def retrain(data: Path, output: Path, *flags: str, weights: Path | str = "none") -> int:
    """Its exit code."""
    return main(arguments(data, output, *flags, weights=weights))


def arguments(data: Path, output: Path, *flags: str, weights: Path | str = "none") -> list[str]:
    return ["retrain", "--data", str(data), "--weights", str(weights), "--output", str(output), *flags]


def copy_cache(bundle: Path, to: Path) -> Path:
    """The crops, copies and features that were made for a bundle, and nothing that Ray Train could take up as its own."""
    return Path(shutil.copytree(bundle.parent / ".btc-ray-cache", to, ignore=shutil.ignore_patterns("train")))
