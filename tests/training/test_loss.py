"""The loss of labels that name several classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from btc_ray.settings.recipe import RECIPES
from btc_ray.training.learner import Learner
from btc_ray.training.loop import Examples, evaluate, train_epoch
from btc_ray.training.loss import cross_entropy_of_several

MEMBERS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
LOGITS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_with_all_labels_of_one_class_it_is_cross_entropy_to_the_bit(weights: torch.Tensor | None, smoothing: float) -> None:
    targets = torch.arange(64) % 3
    wanted = F.cross_entropy(LOGITS, targets, weights, label_smoothing=smoothing, reduction="none")
    for members in (None, MEMBERS):
        assert torch.equal(cross_entropy_of_several(LOGITS, targets, members, weights, label_smoothing=smoothing), wanted)


def test_beside_labels_of_several_those_of_one_class_keep_their_cross_entropy_to_the_bit() -> None:
    targets = torch.arange(64) % 4
    found = cross_entropy_of_several(LOGITS, targets, MEMBERS, WEIGHTS)
    exact = targets < 3
    assert torch.equal(found[exact], F.cross_entropy(LOGITS[exact], targets[exact], WEIGHTS, reduction="none"))


def test_of_several_classes_only_the_sum_of_their_probabilities_counts() -> None:
    logits = LOGITS.clone().requires_grad_()
    targets = torch.full((64,), 3)
    loss = cross_entropy_of_several(logits, targets, MEMBERS)
    assert loss.detach().numpy() == pytest.approx(-np.log(LOGITS.softmax(1)[:, :2].sum(1).numpy()), rel=1e-5)
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    ratio = logits.grad[:, 0] / logits.grad[:, 1]  # what the two gain is shared as their probabilities are
    assert ratio.numpy() == pytest.approx((LOGITS[:, 0] - LOGITS[:, 1]).exp().numpy(), rel=1e-4)


def test_where_only_the_sum_is_known_a_head_learns_the_sum() -> None:
    """Class 0 is told by the first feature; of the others, by the second, it is only said that they are 1 or 2."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    features = rng.normal(size=(200, 1, 512)).astype(np.float32) * 0.1
    features[np.arange(200), 0, kind] += 3
    members = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], bool)
    labels = np.where(kind == 0, 0, 3)
    data = Examples(inputs=features, labels=labels, copies=np.arange(200), members=members)
    torch.manual_seed(0)
    recipe = RECIPES["head"].changed(flips=False, learning_rate=0.01)
    learner = Learner(nn.Linear(512, 3), recipe, steps=4, device=torch.device("cpu"))
    for epoch in range(1, 6):
        train_epoch(learner, data, classes=3, seed=0, epoch=epoch)
    found = evaluate(learner, data, classes=3)
    assert found.confusion.sum() == (kind == 0).sum()
    assert found.several[0] == (kind == 1).sum()
    assert found.accuracy > 0.98
    assert found.loss < 0.4  # untrained: 0.75, the mean of ln 3 and ln 1.5
