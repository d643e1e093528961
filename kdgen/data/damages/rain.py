"""Rain."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.data.damages.blur import convolved, motion
from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

LEAN = math.pi / 6
"""Farthest that streaks lean from upright, in radians."""


@register("damage")
class Rain(Damage):
    """Bright streaks over the image, of one direction: drops that move while the shutter is open.

    Added as a layer that screens what is behind, ``1 - (1 - v)(1 - r)`` of light in [0, 1].

    Args:
        density: share of pixels that a drop begins at, 0 to 0.1.
        length: half of a streak in pixels, 1 to 32.
        light: of the brightest streaks, in [0, 1].
    """

    def __init__(
        self, density: Amount = (0.002, 0.02), length: Amount = (4.0, 12.0), light: Amount = (0.3, 0.8)
    ) -> None:
        check_amount("rain", "density", density, 0, 0.1)
        check_amount("rain", "length", length, 1, 32)
        check_amount("rain", "light", light, 0, 1)
        self.density, self.length, self.light = density, length, light

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        count = len(images)
        density, length, light = (
            amounts(each, count, random, share) for each in (self.density, self.length, self.light)
        )
        lean = math.pi / 2 + LEAN * (2 * torch.rand(count, generator=random) - 1)
        drops = torch.rand(count, 1, *images.shape[2:], generator=random)
        brightness = torch.rand(drops.shape, generator=random)
        layer = torch.where(drops < density[:, None, None, None], 0.5 + 0.5 * brightness, 0.0)
        layer = convolved(layer, motion(length, torch.ones(count), lean))
        peak = layer.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
        layer = F.relu(layer) / peak * light[:, None, None, None]
        return 1 - (1 - images) * (1 - layer), {}
