"""The temperature that makes confidences honest, fitted on validation images alone.

Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

RANGE = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that gives softmax(logits / T) the least cross-entropy; float32 (N, classes) and int64 (N,) in. 1 for no rows."""
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))
    logits = logits.astype(np.float64)
    found = minimize_scalar(
        lambda log_t: -log_softmax(logits / np.exp(log_t), axis=1)[rows, labels].mean(), bounds=np.log(RANGE), method="bounded"
    )
    return round(float(np.exp(found.x)), 4)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean cross-entropy of softmax(logits / temperature)."""
    if not len(labels):
        return 0.0
    return float(-log_softmax(logits.astype(np.float64) / temperature, axis=1)[np.arange(len(labels)), labels].mean())
