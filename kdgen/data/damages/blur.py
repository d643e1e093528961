"""Blur: out of focus, moved, or soft in one direction more than in the other."""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

Shape = Annotated[Literal["gaussian", "motion", "disc"], Field(description='"gaussian", "motion" or "disc"')]
WIDEST = 32.0
"""Largest radius in pixels."""

FINE = 5
"""Points on a side of a pixel at which a disc is looked at."""

MOMENTS = 65
"""At which a movement is looked at."""


@register("damage")
class Blur(Damage):
    """A convolution with a kernel of each image's own; edges are mirrored.

    Args:
        radius: in pixels, 0 to 32: the standard deviation of a Gaussian along its longer axis, half the length of a
            movement, the radius of a disc.
        shape: of the kernel.
        ratio: of the shorter axis of a Gaussian to the longer one, above 0 to 1. Its direction, and that of a
            movement, is drawn for each image.
    """

    def __init__(self, radius: Amount = (0.5, 3.0), shape: Shape = "gaussian", ratio: Amount = 1.0) -> None:
        check_amount("blur", "radius", radius, 0, WIDEST)
        check_amount("blur", "ratio", ratio, 0.05, 1)
        self.radius, self.shape, self.ratio = radius, shape, ratio

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        count = len(images)
        radius, ratio = amounts(self.radius, count, random, share), amounts(self.ratio, count, random, share)
        angle = math.pi * torch.rand(count, generator=random)
        kernels = {"gaussian": _gaussian, "motion": motion, "disc": _disc}[self.shape](radius, ratio, angle)
        return convolved(images, kernels), {}


def convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Images ``(B, C, H, W)``, each convolved with a kernel of its own, ``(B, K, K)``, K odd; edges are mirrored."""
    count, channels, height, width = images.shape
    edge = kernels.shape[-1] // 2
    padded = mirrored(images, edge).reshape(1, count * channels, height + 2 * edge, width + 2 * edge)
    weight = kernels[:, None].repeat_interleave(channels, 0).to(images)
    return F.conv2d(padded, weight, groups=count * channels).view(count, channels, height, width)


def mirrored(images: Tensor, edge: int) -> Tensor:
    """Images with so many pixels around them, mirrored as often as need be."""
    while edge:
        step = min(edge, *(length - 1 for length in images.shape[-2:])) or 1
        mode = "reflect" if min(images.shape[-2:]) > 1 else "replicate"
        images, edge = F.pad(images, (step,) * 4, mode), edge - step
    return images


def _plane(radius: Tensor, reach: float, fine: int = 1) -> Tensor:
    """Places around a kernel's middle in pixels, ``(2, K fine, K fine)``, that ``reach`` radii fit into."""
    edge = math.ceil(reach * float(radius.max()))
    steps = (torch.arange((2 * edge + 1) * fine) + 0.5) / fine - 0.5 - edge
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"))


def _turned(plane: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """The same places along and across directions, each ``(B, K, K)``."""
    down, right = plane
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cosine * right + sine * down, cosine * down - sine * right


def _normal(kernels: Tensor, fine: int = 1) -> Tensor:
    """Kernels that add up to 1, of the means over their finer ones."""
    kernels = F.avg_pool2d(kernels[:, None], fine)[:, 0] if fine > 1 else kernels
    return kernels / kernels.sum((1, 2), keepdim=True)


def _gaussian(radius: Tensor, ratio: Tensor, angle: Tensor) -> Tensor:
    along, across = _turned(_plane(radius, 3), angle)
    long = radius.clamp_min(1e-3)[:, None, None]
    return _normal(torch.exp(-0.5 * ((along / long) ** 2 + (across / (long * ratio[:, None, None])) ** 2)))


def motion(radius: Tensor, ratio: Tensor, angle: Tensor) -> Tensor:
    """Kernels ``(B, K, K)`` of a movement of ``2 radius`` pixels in directions ``angle``, each ``(B,)``."""
    way = radius[:, None] * torch.linspace(-1, 1, MOMENTS)
    down, right = _plane(radius + 1, 1)
    near = [F.relu(1 - (places - (way * part[:, None])[..., None, None]).abs())
            for places, part in ((right, angle.cos()), (down, angle.sin()))]  # fmt: skip
    return _normal((near[0] * near[1]).sum(1))


def _disc(radius: Tensor, ratio: Tensor, angle: Tensor) -> Tensor:
    plane = _plane(radius + 1, 1, FINE)
    return _normal((plane.norm(dim=0) <= radius[:, None, None] + 0.5).float(), FINE)
