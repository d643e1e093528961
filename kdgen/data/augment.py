"""The eight flips and rotations of a square, the symmetry group D4."""

import torch
from torch import Tensor

NUM_DIHEDRAL = 8


def dihedral(x: Tensor, k: int | Tensor) -> Tensor:
    """Flip and rotate images.

    Args:
        x: ``(B, C, H, W)``, any range.
        k: which of the eight symmetries, 0 to 7: bit 2 transposes, then bit 1 flips rows and bit 0 columns; 0 leaves
            the images as they are. A tensor ``(B,)`` chooses for each image by itself, and then H = W.

    Returns:
        ``(B, C, H, W)``, or ``(B, C, W, H)`` for a ``k`` of 4 and above.
    """
    if isinstance(k, Tensor):
        for bit in (4, 2, 1):
            x = torch.where((k & bit).bool().view(-1, 1, 1, 1), dihedral(x, bit), x)
        return x
    x = x.transpose(-2, -1) if k & 4 else x
    axes = [axis for axis, bit in ((-2, 2), (-1, 1)) if k & bit]
    return x.flip(axes) if axes else x


def inverse(k: int) -> int:
    """The number of the symmetry that undoes the one of number ``k``."""
    return 4 | (k & 1) << 1 | (k & 2) >> 1 if k & 4 else k
