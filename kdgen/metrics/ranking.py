"""How well scores put what is sought before what is not."""

import torch
from torch import Tensor


def auroc(scores: Tensor, labels: Tensor) -> float:
    """The area under the curve of true over false positives: how often a positive is above a negative.

    Counted by ranks as Mann & Whitney 1947; equal scores count half.

    Args:
        scores: the higher, the likelier positive, any shape.
        labels: which are positive, the same shape, bool.

    Returns:
        a share in [0, 1], 0.5 by chance; NaN where either kind is missing or a score is not finite.
    """
    positive = labels.flatten().bool()
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative or not scores.isfinite().all():
        return float("nan")
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = counts.cumsum(0) - (counts - 1) / 2
    above = middle_ranks.double()[place.flatten()[positive]].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


__all__ = ["auroc"]
