"""Where in the crop the model finds its reason: class activation maps of the last convolution."""

import numpy as np
import torch
from torch import Tensor

from btc_ray.model.engines.folded import FoldedResNet18


def activation_maps(network: FoldedResNet18, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Grad-CAM of each crop for one class: float32 (N, h, w) from 0 to 1, h and w a 32nd of the crop's sides; all 0 where nothing
    speaks for the class.

    Between the last convolution and the logits stand a mean and a linear layer, so the gradients of Grad-CAM are the layer's weights
    and nothing needs to be differentiated.

    Args:
        pixels: uint8 (N, H, W).
        labels: int (N,), the class to explain.

    Sources: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016; Selvaraju et al., Grad-CAM, ICCV 2017,
    which shows the two to be the same for such networks.
    """
    weight = torch.from_numpy(network.head[0][labels])
    with torch.inference_mode():
        maps: Tensor = network.maps(torch.from_numpy(np.ascontiguousarray(pixels))).float().cpu()
        found = torch.einsum("nf,nfhw->nhw", weight, maps).relu_()
        highest = found.amax(dim=(1, 2), keepdim=True)
        return (found / highest.where(highest > 0, torch.ones(()))).numpy()
