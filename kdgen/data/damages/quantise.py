"""Too few levels: banding."""

import torch
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register


@register("damage")
class Quantise(Damage):
    """Values rounded to few levels, without dither: smooth areas fall into bands.

    Args:
        levels: of each channel, 2 to 256. A ``share`` of its range counts from the most to the fewest.
    """

    def __init__(self, levels: Amount = (6.0, 32.0)) -> None:
        check_amount("quantise", "levels", levels, 2, 256)
        self.levels = levels

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        levels = amounts(self.levels, len(images), random, None if share is None else 1 - share).round()
        steps = (levels - 1)[:, None, None, None] / 2
        return ((images.clamp(-1, 1) + 1) * steps).round() / steps - 1, {}
