"""The network that is trained: torchvision's ResNet18 with a head for the bundle's classes.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision.models.resnet18.
"""

from torch import nn
from torchvision.models.resnet import ResNet, resnet18

FEATURES = 512  # width of ResNet18 before its last layer


def build_network(num_classes: int) -> ResNet:
    """A randomly initialised ResNet18: float32 (N, 3, H, W) normalised images in, float32 (N, num_classes) logits out."""
    network = resnet18(weights=None)
    network.fc = nn.Linear(FEATURES, num_classes)
    return network
