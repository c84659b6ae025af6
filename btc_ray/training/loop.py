"""The training loop that every worker runs: one epoch, one evaluation.

Exact with any number of workers: each takes its share of every global batch, and metrics are summed over all rows.
"""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from btc_ray.training.augment import draw
from btc_ray.training.learner import Learner
from btc_ray.training.loss import cross_entropy_of_several

MEASURED_TOGETHER = 64  # images of one forward pass without gradients
MOST_OF_SOURCE = 3.0  # benchmarks/RESULTS.md: more gains little there and loses at home


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a split is: `inputs` uint8 (N, S, S) crops, or float32 (N, V, 512) features, one per flip, then
    one per flip of the changed pictures where the recipe changes their appearance; `labels` int64 (N,);
    `copies` int64 (N,), the group of copies of each; `members` bool (classes + S, classes), which classes a label names, the classes
    themselves first, or None where each names one; `sources` int64 (N,), equal for images of one source, or None where none is named."""

    inputs: np.ndarray
    labels: np.ndarray
    copies: np.ndarray
    members: np.ndarray | None = None
    sources: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """Loss (mean cross-entropy, neither smoothed nor weighted) and confusion counts, int64 (classes, classes): rows true.

    `several`: images whose label names several classes, and those of them that were called one of these.
    """

    loss: float
    confusion: np.ndarray
    several: tuple[int, int] = (0, 0)

    @property
    def accuracy(self) -> float:
        images, right = self.several
        return float((np.trace(self.confusion) + right) / max(self.confusion.sum() + images, 1))


def steps_per_epoch(examples: Examples, *, batch_size: int, one_per_group: bool) -> int:
    """Batches of an epoch; they are of equal size within one image, so that none is too small for its statistics."""
    shown = len(np.unique(examples.copies)) if one_per_group else len(examples.labels)
    return -(-shown // batch_size)


def train_epochs(
    learner: Learner, examples: Mapping[str, Examples], history: list[dict[str, Any]], *, classes: int, seed: int
) -> Iterator[list[dict[str, Any]]]:
    """Train on from where `history` ends, to the recipe's epochs or the end of its patience. After each epoch gives its two rows, for
    the splits train and validation: `epoch, split, loss, accuracy, learning_rate, seconds`; they stand in `history` by then."""
    recipe, begun = learner.recipe, time.monotonic()
    done = max((row["epoch"] for row in history), default=0)
    for epoch in range(done + 1, recipe.epochs + 1):
        if patience_is_over([row["loss"] for row in history if row["split"] == "validation"], recipe.patience):
            return
        rate = learner.optimizer.param_groups[0]["lr"]
        results = {
            "train": train_epoch(learner, examples["train"], classes=classes, seed=seed, epoch=epoch),
            "validation": evaluate(learner, examples["validation"], classes=classes),
        }
        ended = time.monotonic()
        shared = {"learning_rate": rate, "seconds": ended - begun}  # of the epoch, and of keeping the one before
        begun = ended
        rows = [
            {"epoch": epoch, "split": name, "loss": result.loss, "accuracy": result.accuracy, **shared}
            for name, result in results.items()
        ]
        history += rows
        yield rows


def train_epoch(learner: Learner, train: Examples, *, classes: int, seed: int, epoch: int) -> Result:
    """One pass in an order that depends on seed and epoch alone; the result is that of the images as they were shown.

    Every worker draws the same order and the same changes and takes rows rank::workers of each global batch; the mean of their
    gradients is the gradient of the global batch, whatever the number of workers.
    """
    recipe, (rank, workers) = learner.recipe, place()
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(train.labels))
    if recipe.one_per_group:
        order = order[np.sort(np.unique(train.copies[order], return_index=True)[1])]  # the first of each group in this order
    changes = draw(recipe, len(order), random)
    weights = _class_weights(train.labels, classes).to(learner.device) if recipe.class_weights else None
    members = None if train.members is None else torch.from_numpy(train.members).to(learner.device)
    each = None
    if recipe.balance_sources and train.sources is not None:
        each = torch.from_numpy(source_weights(train.sources[order])).to(learner.device)
    running = _RunningResult(classes, members, learner.device)
    learner.train()
    steps = steps_per_epoch(train, batch_size=recipe.batch_size, one_per_group=recipe.one_per_group)
    for places in np.array_split(np.arange(len(order)), steps):
        mine = places[rank::workers]
        inputs = learner.training_inputs(train.inputs, order[mine], changes, mine, epoch=epoch)
        targets = torch.from_numpy(train.labels[order[mine]]).to(learner.device)
        with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.bf16):
            logits = learner.wrapped(inputs)
        loss = cross_entropy_of_several(logits.float(), targets, members, weights, label_smoothing=recipe.label_smoothing)
        if each is not None:
            loss = loss * each[mine]
        learner.step(loss.sum() * workers / len(places))
        running.add(logits.detach(), targets)
    return running.result()


def evaluate(learner: Learner, examples: Examples, *, classes: int) -> Result:
    """Loss and confusion over every row, each counted once, whatever the number of workers."""
    members = None if examples.members is None else torch.from_numpy(examples.members).to(learner.device)
    running = _RunningResult(classes, members, learner.device)
    rank, workers = place()
    mine = np.arange(rank, len(examples.labels), workers)
    model = learner.model.eval()
    for start in range(0, len(mine), MEASURED_TOGETHER):
        rows = mine[start : start + MEASURED_TOGETHER]
        with torch.inference_mode(), torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.bf16):
            logits = model(learner.inputs(examples.inputs, rows))
        running.add(logits, torch.from_numpy(examples.labels[rows]).to(learner.device))
    return running.result()


def answered_rightly(learner: Learner, examples: Examples) -> np.ndarray:
    """Whether the class that the model finds likeliest is one that the label names: bool (N,). Of all rows, whatever the worker."""
    found = []
    model = learner.model.eval()
    for start in range(0, len(examples.labels), MEASURED_TOGETHER):
        rows = np.arange(start, min(start + MEASURED_TOGETHER, len(examples.labels)))
        with torch.inference_mode(), torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.bf16):
            found.append(model(learner.inputs(examples.inputs, rows)).argmax(1).cpu().numpy())
    said = np.concatenate(found) if found else np.zeros(0, np.int64)
    if examples.members is None:
        return said == examples.labels
    return examples.members[examples.labels, said]


def patience_is_over(losses: Sequence[float], patience: int) -> bool:
    """Whether so many epochs have passed since the best of these validation losses; never with a patience of 0."""
    return bool(patience and losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


class _RunningResult:
    """Sums over the rows of all workers."""

    def __init__(self, classes: int, members: Tensor | None, device: torch.device) -> None:
        self._classes, self._members = classes, members
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        self._several = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, found: Tensor, targets: Tensor) -> None:
        self._loss += cross_entropy_of_several(found.float(), targets, self._members).sum().double()
        said = found.argmax(1)
        if self._members is not None:
            of_one = targets < self._classes
            right = self._members[targets, said] & ~of_one
            self._several += torch.stack([(~of_one).sum(), right.sum()])
            targets, said = targets[of_one], said[of_one]
        pairs = targets * self._classes + said
        self._confusion += torch.bincount(pairs, minlength=self._classes**2).view(self._classes, self._classes)

    def result(self) -> Result:
        if dist.is_initialized():
            dist.all_reduce(self._loss)
            dist.all_reduce(self._confusion)
            dist.all_reduce(self._several)
        several, right = self._several.tolist()
        images = int(self._confusion.sum()) + several
        return Result(loss=float(self._loss) / max(images, 1), confusion=self._confusion.cpu().numpy(), several=(several, right))


def source_weights(sources: np.ndarray) -> np.ndarray:
    """float32 (N,), 1 on average: one over the square root of how many images the source of each has, at most MOST_OF_SOURCE times the
    largest source's.

    Equal weights for all sources would make a few images count as much as thousands, and be learned by heart at the cost of all others.
    """
    _, of_source, counts = np.unique(sources, return_inverse=True, return_counts=True)
    weights = np.minimum(np.sqrt(counts.max() / counts), MOST_OF_SOURCE)[of_source]
    return (weights / weights.mean()).astype(np.float32)


def _class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """float32 (classes,): inversely as many as there are of each, 1 on average over the images."""
    of_one = labels[labels < classes]
    counts = np.maximum(np.bincount(of_one, minlength=classes), 1)
    return torch.from_numpy((len(of_one) / (classes * counts)).astype(np.float32))


def place() -> tuple[int, int]:
    """This worker's rank and the number of workers."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def pack(state: Mapping[str, Any]) -> bytes:
    """A checkpoint as bytes, readable with `weights_only=True`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
