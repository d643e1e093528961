"""The eight flips and rotations of a square, the symmetry group D4; and parts of images, turned by it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdgen.types import Batch

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to see a batch of square images: a part of each, flipped or rotated.

    Attributes:
        size: height and width of the whole images in pixels.
        top, left, crop: where the part begins, and its height and width.
        orientation: the symmetry of each image, ``(B,)``, 0 to 7.
    """

    size: int
    top: int
    left: int
    crop: int
    orientation: Tensor

    def of(self, t: Tensor) -> Tensor:
        """The same part of ``(B, C, H, W)``, which may be larger or smaller than the images; another rank as it is."""
        if t.ndim != 4:
            return t
        scale = t.shape[-1] / self.size
        top, left, crop = (round(v * scale) for v in (self.top, self.left, self.crop))
        part = t[..., top : top + crop, left : left + crop]
        return dihedral(part, self.orientation) if self.orientation.any() else part

    def batch(self, batch: Batch) -> Batch:
        """The same part of every view in a batch; its ``real`` images belong to none and stay."""
        return replace(
            batch,
            x=self.of(batch.x),
            teacher_x=None if batch.teacher_x is None else self.of(batch.teacher_x),
            y=None if batch.y is None else self.of(batch.y),
            cond={key: self.of(value) for key, value in batch.cond.items()},
        )


def drawn(
    batch: Batch, *, crop: int | None, turn: bool, random: torch.Generator, beside: Iterable[Tensor] = ()
) -> Variant:
    """A variant of a batch by chance. One that is smaller somewhere is cut where its pixels begin.

    Args:
        batch: ``x`` is ``(B, C, H, H)``.
        crop: height and width of the part, at most H; None is the whole.
        turn: whether to flip and rotate.
        random: where it is drawn from.
        beside: what else will be cut alike, an answer.
    """
    size = batch.x.shape[-1]
    crop = min(crop or size, size)
    views = [batch.x, batch.teacher_x, batch.y, *batch.cond.values(), *beside]
    stride = max([1, *(size // t.shape[-1] for t in views if t is not None and t.ndim == 4)])
    top, left = (stride * int(torch.randint((size - crop) // stride + 1, (), generator=random)) for _ in range(2))
    orientation = torch.randint(NUM_DIHEDRAL if turn else 1, (len(batch.x),), generator=random)
    return Variant(size=size, top=top, left=left, crop=crop, orientation=orientation)
