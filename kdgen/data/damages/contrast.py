"""Less contrast."""

import torch
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register


@register("damage")
class Contrast(Damage):
    """Values drawn towards the mean of their channel: ``m + factor (v - m)``, Hendrycks and Dietterich 2019.

    Args:
        factor: that contrast is multiplied by, 0 to 1. A ``share`` of its range counts from the largest.
    """

    def __init__(self, factor: Amount = (0.15, 0.75)) -> None:
        check_amount("contrast", "factor", factor, 0, 1)
        self.factor = factor

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        factor = amounts(self.factor, len(images), random, None if share is None else 1 - share)[:, None, None, None]
        mean = images.mean((2, 3), keepdim=True)
        return mean + factor * (images - mean), {}
