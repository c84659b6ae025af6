"""The network that is trained: torchvision's ResNet18 with a head for the bundle's classes.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision.models.resnet18.

Importing torchvision takes 2 s, for it imports torch's compiler: only what builds a network does, and no worker that trains a head.
"""

from typing import TYPE_CHECKING

from torch import nn

from btc_ray.model.engines.folding import FEATURES

if TYPE_CHECKING:
    from torchvision.models.resnet import ResNet


def build_network(num_classes: int) -> "ResNet":
    """A randomly initialised ResNet18: float32 (N, 3, H, W) normalised images in, float32 (N, num_classes) logits out."""
    from torchvision.models.resnet import resnet18

    network = resnet18(weights=None)
    network.fc = nn.Linear(FEATURES, num_classes)
    return network


LEARNING = {"head": ("fc",), "layer4": ("layer4", "fc"), "all": ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")}
"""The parts of a ResNet18 that learn."""


def learn(network: "ResNet", train: str) -> None:
    """Put the parts that learn in training mode with gradients, the others in evaluation mode without, in place.

    A frozen part's BatchNorm stays in evaluation mode: statistics that move would make another backbone of it.
    """
    for name, child in network.named_children():
        learning = name in LEARNING[train]
        child.train(learning)
        child.requires_grad_(learning)
