"""How well scores put what is sought before what is not."""

import torch
from torch import Tensor


def auroc(scores: Tensor, labels: Tensor) -> float:
    """The area under the curve of true over false positives, see ``area_under_curve``.

    Args:
        scores: the higher, the likelier positive, any shape.
        labels: which are positive, the same shape, bool.

    Returns:
        a share in [0, 1], 0.5 by chance; NaN where either kind is missing or a score is not finite.
    """
    positive = labels.flatten().bool()
    if not positive.any() or positive.all() or not scores.isfinite().all():
        return float("nan")
    return area_under_curve(scores.flatten(), positive)


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """How often a positive is above a negative, equal ones counting half, by the mean ranks of equal scores.

    Mann & Whitney 1947; Hanley & McNeil 1982 (Radiology 143), eq. 1.

    Args:
        scores: ``(N,)``, infinite ones before or behind all others.
        positive: ``(N,)`` bool, some of them true and some not.
    """
    num = int(positive.sum())
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    middle_ranks = counts.cumsum(0) - (counts - 1) / 2
    above = middle_ranks.double()[place[positive]].sum() - num * (num + 1) / 2
    return float(above / (num * (len(scores) - num)))


__all__ = ["area_under_curve", "auroc"]
