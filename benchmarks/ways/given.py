"""What every way is given: a folder of images, a bundle's weights, and a folder for Parquet files with `path` and `label`.

The peers look at the whole image, as their documentations do: none of them crops.
"""

import argparse
from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision import transforms

from btc_ray.model.bundle import Bundle, read_bundle, read_weights
from btc_ray.model.network import build_network
from btc_ray.storage import Place

BATCH = 32  # of 8, 16, 32 and 64 none was faster for any of the peers


def arguments(text: str | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line of a way: `images`, `model` and `output`, and the words that are its own."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder with nothing but images in it")
    parser.add_argument("--model", required=True, help="a bundle, for its weights and classes")
    parser.add_argument("--output", required=True, help="new folder for Parquet files")
    return parser.parse_known_args()


def eager_network(uri: str) -> tuple[nn.Module, Bundle]:
    """torchvision's ResNet18 in fp32 with the bundle's weights, in evaluation mode."""
    bundle = read_bundle(Place(uri))
    network = build_network(len(bundle.classes))
    network.load_state_dict(read_weights(Place(uri), bundle))
    return network.eval(), bundle


def transform(bundle: Bundle) -> Callable[[Any], Any]:
    """An image as uint8 (H, W, 3) or of Pillow → float32 (3, size, size), normalised."""
    size = bundle.preprocess["size"]
    return transforms.Compose(
        [transforms.ToTensor(), transforms.Resize((size, size)), transforms.Normalize(bundle.mean, bundle.std)]
    )
