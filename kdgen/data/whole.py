"""Whole pictures brought to a size: framed in a square, shrunk by area averaging."""

import torch
import torch.nn.functional as F
from torch import Tensor


def border(x: Tensor) -> Tensor:
    """What lies around each image: the median of its outermost pixels by channel.

    Args:
        x: images ``(B, C, H, W)``, any range.

    Returns:
        ``(B, C, 1, 1)``.
    """
    around = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], -1)
    return around.median(-1).values[..., None, None]


def framed(x: Tensor, size: int) -> Tensor:
    """Whole images in a square, centred on the value of their border.

    An image larger than the square is shrunk by area averaging, one that fits keeps its pixels.

    Args:
        x: images ``(B, C, H, W)``, any range.
        size: height and width of the square in pixels.

    Returns:
        ``(B, C, size, size)``.
    """
    height, width = x.shape[-2:]
    side = max(height, width, size if max(height, width) <= size else 0)
    top, left = (side - height) // 2, (side - width) // 2
    if (height, width) != (side, side):
        canvas = border(x).expand(*x.shape[:2], side, side).clone()
        canvas[..., top : top + height, left : left + width] = x
        x = canvas
    return x if side == size else F.interpolate(x, (size, size), mode="area")
