"""Haze and fog."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

COARSE = 4
"""Height and width of the grid from which depth is drawn."""


@register("damage")
class Haze(Damage):
    """Light that is scattered into the line of sight: ``v t + a (1 - t)``, ``t = exp(-density depth)``.

    The model of Narasimhan and Nayar (2002, IJCV 48(3)), with a smooth depth in [0, 1] that is drawn for each image.

    Args:
        density: 0 to 10.
        air: the grey level of the haze, in [0, 1].
    """

    def __init__(self, density: Amount = (0.5, 2.5), air: Amount = (0.7, 1.0)) -> None:
        check_amount("haze", "density", density, 0, 10)
        check_amount("haze", "air", air, 0, 1)
        self.density, self.air = density, air

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        count = len(images)
        density = amounts(self.density, count, random, share)[:, None, None, None]
        air = 2 * amounts(self.air, count, random, share)[:, None, None, None] - 1
        depth = torch.rand(count, 1, COARSE, COARSE, generator=random)
        depth = F.interpolate(depth, images.shape[-2:], mode="bicubic", align_corners=True).clamp(0, 1)
        seen = torch.exp(-density * depth)
        return images * seen + air * (1 - seen), {}
