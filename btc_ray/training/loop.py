"""The training loop that every Ray Train worker runs: the head on the features of a frozen backbone.

Exact with any number of workers: each takes its share of every global batch, and metrics are summed over all rows.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from btc_ray.settings import Retrain

CHECKPOINT = "state.pt"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a split is: `features` float32 (N, V, 512), one per flip; `labels` int64 (N,)."""

    features: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Result:
    """Loss (mean cross-entropy without smoothing) and confusion counts, int64 (classes, classes): rows true, columns predicted."""

    loss: float
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))


def make_optimizer(parameters: list[nn.Parameter], settings: Retrain) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.NAdam(parameters, lr=settings.learning_rate)


def make_schedule(optimizer: torch.optim.Optimizer, settings: Retrain) -> torch.optim.lr_scheduler.LRScheduler:
    """Step schedule, a step an epoch; constant where `step_epochs` is 0."""
    return torch.optim.lr_scheduler.StepLR(optimizer, settings.step_epochs or settings.epochs + 1, settings.step_factor)


def train_epoch(head: nn.Module, optimizer: torch.optim.Optimizer, train: Examples, settings: Retrain, *, epoch: int) -> float:
    """One pass in an order that depends on seed and epoch alone; returns the mean training loss.

    Every worker draws the same order and the same flips, takes rows rank::workers of each global batch, and the sum of their
    gradients is the gradient of the global batch, whatever the number of workers.
    """
    rank, workers = place()
    random = np.random.default_rng([settings.seed, epoch])
    order = random.permutation(len(train.labels))
    flips = random.integers(train.features.shape[1], size=len(order))
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, len(order), settings.batch_size):
        batch = order[start : start + settings.batch_size]
        mine = batch[rank::workers]
        inputs = torch.from_numpy(train.features[mine, flips[mine]])
        targets = torch.from_numpy(train.labels[mine])
        loss = F.cross_entropy(head(inputs), targets, label_smoothing=settings.label_smoothing, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        (loss / len(batch)).backward()
        for parameter in head.parameters():
            if parameter.grad is not None:
                _sum(parameter.grad)
        optimizer.step()
        total += loss.detach().double()
    return float(_sum(total) / len(order))


def evaluate(head: nn.Module, examples: Examples, *, classes: int) -> Result:
    """Loss and confusion over every row, each counted once, whatever the number of workers."""
    rank, workers = place()
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    loss = torch.zeros((), dtype=torch.float64)
    mine = np.arange(rank, len(examples.labels), workers)
    with torch.inference_mode():
        for start in range(0, len(mine), 4096):
            rows = mine[start : start + 4096]
            targets = torch.from_numpy(examples.labels[rows])
            logits = head(torch.from_numpy(np.ascontiguousarray(examples.features[rows, 0])))
            loss += F.cross_entropy(logits, targets, reduction="sum").double()
            confusion += torch.bincount(targets * classes + logits.argmax(1), minlength=classes**2).view(classes, classes)
    return Result(loss=float(_sum(loss)) / max(len(examples.labels), 1), confusion=_sum(confusion).numpy())


def place() -> tuple[int, int]:
    """This worker's rank and the number of workers."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def pack(state: Mapping[str, Any]) -> bytes:
    """A checkpoint as bytes, readable with `weights_only=True`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), weights_only=True)


def _sum(tensor: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
