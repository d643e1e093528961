"""A painter: the generalised Kuwahara filter (Papari, Petkov & Campisi 2007, "Artistic edge and corner enhancing")."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.registry import register
from kdgen.types.arguments import Channels, Count

SECTORS = 8
SHARPNESS = 4.0
"""Power of a sector's deviation by which it counts less."""

LEAST = 0.02
"""Deviation in [0, 1] below which sectors are alike."""


class Pass(nn.Module):
    """Of each pixel's sectors the means, weighted by how smooth they are: ``(B, C, H, W)`` in [0, 1] to the same.

    Papari et al., eq. 10 and 12: the weights are ``deviation^-q``.
    """

    def __init__(self, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.sectors = nn.Parameter(_sectors(radius)[:, None])

    def forward(self, light: Tensor) -> Tensor:
        """Images once painted over."""
        padded = F.pad(light, (self.radius,) * 4, mode="replicate")
        means, squares = (self._sums(each) for each in (padded, padded.square()))
        deviation = ((squares - means.square()).clamp_min(0).sum(1) + LEAST**2).sqrt()
        weights = deviation.pow(-SHARPNESS)
        weights = weights / weights.sum(1, keepdim=True)
        return (means * weights[:, None]).sum(2)

    def _sums(self, padded: Tensor) -> Tensor:
        """What lies in each sector around each pixel, weighted: ``(B, C, SECTORS, H, W)``."""
        channels = padded.shape[1]
        sums = F.conv2d(padded, self.sectors.repeat(channels, 1, 1, 1), groups=channels)
        return sums.view(-1, channels, SECTORS, *sums.shape[2:])


class Kuwahara(nn.Module):
    """The net of ``kuwahara``: painted over a few times, as if in strokes."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, radius: int, passes: int) -> None:
        super().__init__()
        self.channels = channels
        self.passes = nn.Sequential(*(Pass(radius) for _ in range(passes)))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to as large ones."""
        out: Tensor = self.passes((x + 1) / 2)
        return 2 * out - 1


def _sectors(radius: int) -> Tensor:
    """Weights of places in each sector of a disc, Gaussian from its middle on, ``(SECTORS, 2 radius + 1, ...)``."""
    line = torch.arange(-radius, radius + 1, dtype=torch.float32)
    down, right = torch.meshgrid(line, line, indexing="ij")
    angle = torch.atan2(down, right)
    inside = torch.exp(-2 * (down**2 + right**2) / radius**2) * ((down**2 + right**2) <= (radius + 0.5) ** 2)
    directions = 2 * math.pi / SECTORS * torch.arange(SECTORS)
    apart = (angle - directions.view(-1, 1, 1) + math.pi) % (2 * math.pi) - math.pi
    weights = inside * torch.exp(-0.5 * (apart / (math.pi / SECTORS)) ** 2)
    return weights / weights.sum((1, 2), keepdim=True)


@register("net")
def kuwahara(channels: Channels = 3, radius: Count = 4, passes: Count = 3) -> Kuwahara:
    """A filter that paints: a teacher without a single trained weight, and dear.

    Args:
        channels: channels C of its images.
        radius: of what a stroke covers, in pixels.
        passes: how many times it is painted over.
    """
    return Kuwahara(channels, radius, passes)
