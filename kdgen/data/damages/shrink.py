"""Fewer pixels, by the kernels that the field reports its figures for."""

import functools
import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged
from kdgen.registry import register
from kdgen.types import UserError, text

Kernel = Literal["bicubic", "area", "lanczos"]
Scale = Annotated[Literal[2, 3, 4, 8], Field(description="2, 3, 4 or 8")]
SUPPORT = {"bicubic": 4.0, "area": 1.0, "lanczos": 6.0}
"""Widths of kernels in pixels of the small image."""


@register("damage")
class Shrink(Damage):
    """Fewer pixels: what super-resolution undoes.

    Bicubic is that of MATLAB's ``imresize`` (Keys 1981, TASSP 29(6), a = -0.5, widened by the scale against aliasing,
    edges mirrored), in which the benchmarks of super-resolution are made.

    Args:
        scale: how many times less high and wide.
        kernel: ``bicubic``, ``area`` (the mean of what a pixel covers) or ``lanczos`` (of 3 lobes).
    """

    graded = False

    def __init__(self, scale: Scale = 4, kernel: Kernel = "bicubic") -> None:
        self.scale, self.kernel, self.keeps = scale, kernel, kernel == "area"

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base; height and width are multiples of the scale, and what overshoots is clipped."""
        check_multiple(images, self.scale)
        return resized(images, 1 / self.scale, self.kernel).clamp(-1, 1), {}


def check_multiple(images: Tensor, scale: int) -> None:
    """Refuse images whose height or width is no multiple of a scale. Raises UserError."""
    height, width = images.shape[-2:]
    if height % scale or width % scale:
        raise UserError(text("no_multiple", "images of {height}x{width} cannot be made {scale} times smaller: cut them "
                             "to multiples of that", height=height, width=width, scale=scale))  # fmt: skip


def resized(images: Tensor, factor: float, kernel: Kernel = "bicubic") -> Tensor:
    """Images in another size, against aliasing where that is smaller.

    Args:
        images: ``(B, C, H, W)``.
        factor: of their height and width.
        kernel: that weighs pixels.

    Returns:
        ``(B, C, ceil(factor H), ceil(factor W))``.
    """
    down, across = (_weights(length, factor, kernel).to(images) for length in images.shape[-2:])
    return down @ images @ across.T


@functools.lru_cache(maxsize=256)
def _weights(length: int, factor: float, kernel: Kernel) -> Tensor:
    """How much each pixel of a row counts in each one of the resized row, ``(ceil(factor length), length)``."""
    wide = max(1 / factor, 1.0)
    support = SUPPORT[kernel] * wide
    at = (torch.arange(math.ceil(length * factor - 1e-9), dtype=torch.float64) + 0.5) / factor - 0.5
    first = (at - support / 2).floor().long()
    columns = first[:, None] + torch.arange(math.ceil(support) + 2)
    weights = _kernel(kernel, (at[:, None] - columns) / wide)
    weights /= weights.sum(1, keepdim=True)
    mirrored = columns % (2 * length)
    mirrored = torch.minimum(mirrored, 2 * length - 1 - mirrored)
    return torch.zeros(len(at), length, dtype=torch.float64).scatter_add_(1, mirrored, weights).float()


def _kernel(kernel: Kernel, x: Tensor) -> Tensor:
    x = x.abs()
    if kernel == "area":
        return ((x < 0.5) + 0.5 * (x == 0.5)).to(x.dtype)
    if kernel == "lanczos":
        return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))
