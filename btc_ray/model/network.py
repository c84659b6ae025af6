"""The network: torchvision's ResNet18 with a head for the bundle's classes, and which of its parameters learn.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision.models.resnet18.
"""

from typing import Literal

from torch import nn
from torchvision.models.resnet import ResNet, resnet18

Train = Literal["head", "layer4", "all"]

FEATURES = 512  # width of ResNet18 before its last layer


def build_network(num_classes: int) -> ResNet:
    """A randomly initialised ResNet18: float32 (N, 3, H, W) normalised images in, float32 (N, num_classes) logits out."""
    network = resnet18(weights=None)
    network.fc = nn.Linear(FEATURES, num_classes)
    return network


def choose_trainable(network: ResNet, train: Train) -> list[nn.Parameter]:
    """Freeze everything that `train` does not name; return the parameters that learn."""
    network.requires_grad_(False)
    learning: list[nn.Module] = {"head": [network.fc], "layer4": [network.layer4, network.fc], "all": [network]}[train]
    for module in learning:
        module.requires_grad_(True)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def training_mode(network: ResNet, train: Train) -> None:
    """Put the learning part in training mode and keep the frozen part in evaluation mode.

    A frozen BatchNorm in training mode would go on moving its running statistics, and the backbone would not be frozen.
    """
    network.eval()
    if train == "all":
        network.train()
    elif train == "layer4":
        network.layer4.train()
    network.fc.train()
