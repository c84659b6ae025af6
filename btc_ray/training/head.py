"""The last layer on its own: fitted to features of a frozen backbone, standardised or not, and what it answers."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

PENALTY = 0.01  # C of the logistic regression that a head begins with


def fit_head(features: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    """The last layer of a regularised logistic regression on float32 (N, 512) features, as its state dict.

    Args:
        labels: int64 (N,), each class at least once.
    """
    mean, deviation = feature_statistics(features[:, None])
    found = LogisticRegression(C=PENALTY, max_iter=500).fit((features - mean) / deviation, labels)
    head = nn.Linear(features.shape[1], len(found.classes_))
    weight, bias = found.coef_, found.intercept_
    if len(weight) == 1:  # of two classes scikit-learn keeps the second's alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    head.load_state_dict({"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()})
    fold_standardisation(head, mean, deviation)
    return {name: tensor.detach() for name, tensor in head.state_dict().items()}


def feature_statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature of float32 (N, V, 512), over images and flips: float32 (512,) each; a constant
    feature has deviation 1."""
    mean, deviation = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    return mean, np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def fold_standardisation(head: nn.Linear, mean: np.ndarray | np.float32, deviation: np.ndarray | np.float32) -> None:
    """Make a head of standardised features one of plain features, in place: W (x − m) / d + b = (W / d) x + (b − (W / d) m)."""
    with torch.no_grad():
        head.weight.div_(torch.as_tensor(deviation))
        head.bias.sub_((head.weight * torch.as_tensor(mean)).sum(dim=1))


def head_logits(state: Mapping[str, Tensor], features: np.ndarray) -> np.ndarray:
    """Logits, float32 (N, classes), of pooled features, float32 (N, F), of which the head sees the last 512. `state`: of a ResNet18."""
    weight = state["fc.weight"].detach().cpu().numpy()
    return features[:, -weight.shape[1] :] @ weight.T + state["fc.bias"].detach().cpu().numpy()
