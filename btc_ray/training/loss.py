"""The loss of labels that name one class or several."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy_of_several(
    logits: Tensor, targets: Tensor, members: Tensor | None, weights: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """The negative logarithm of the summed probability of the classes that each label names: float32 (N,).

    Of a label of one class that is the cross-entropy, to the bit. Source: Cour et al., Learning from Partial Labels, JMLR 2011, for the
    setting; Jin and Ghahramani, Learning with Multiple Labels, NIPS 2002, for the sum.

    Args:
        logits: float32 (N, C).
        targets: int64 (N,), rows of `members`; below C they are classes.
        members: bool (C + S, C), which classes a label names, the identity first; None where all labels are of one class.
        weights: float32 (C,) of the classes; a label of several has the mean of theirs.
        label_smoothing: the share of a target that is spread over all classes.
    """
    classes = logits.shape[1]
    if members is None:
        return F.cross_entropy(logits, targets, weights, label_smoothing=label_smoothing, reduction="none")
    of_one = targets < classes
    exact = F.cross_entropy(logits, targets.clamp(max=classes - 1), weights, label_smoothing=label_smoothing, reduction="none")
    if bool(of_one.all()):
        return exact
    named = members[targets]
    likely = F.log_softmax(logits, dim=1)
    summed = likely.masked_fill(~named, -torch.inf).logsumexp(dim=1)
    each = torch.ones(classes, device=logits.device) if weights is None else weights
    weight = (named * each).sum(dim=1) / named.sum(dim=1)
    several = -(1 - label_smoothing) * weight * summed - label_smoothing / classes * (likely * each).sum(dim=1)
    return torch.where(of_one, exact, several)
