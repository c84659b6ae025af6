"""Where the real images and weights are, and a Ray that is shut down after the tests that use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs ../shared/{relative}, which a fresh clone does not have")
    return path


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The Kaggle layout of real MRI images (224 × 224)."""
    return _shared("data/brain-tumor-mri")


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """A torchvision ResNet18 state dict."""
    return _shared("weights/resnet18-imagenet.pth")
