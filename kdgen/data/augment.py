"""The eight flips and rotations of a square, the symmetry group D4; and parts of images, turned by it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kdgen.types import Batch, UserError, text
from kdgen.utils.conditions import is_map

NUM_DIHEDRAL = 8
NUM_FLIPS = 4
"""Those of them that keep height and width: rectangles have no more."""


def dihedral(x: Tensor, k: int | Tensor) -> Tensor:
    """Flip and rotate images.

    Args:
        x: ``(B, ..., H, W)``, any range.
        k: which of the eight symmetries, 0 to 7: bit 2 transposes, then bit 1 flips rows and bit 0 columns; 0 leaves
            the images as they are. A tensor ``(B,)`` chooses for each image by itself, and then H = W if any is 4 or
            above.

    Returns:
        ``(B, ..., H, W)``, or ``(B, ..., W, H)`` for a ``k`` of 4 and above.
    """
    if isinstance(k, Tensor):
        for bit in (4, 2, 1):
            chosen = (k & bit).bool()
            if chosen.any():
                x = torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), dihedral(x, bit), x)
        return x
    x = x.transpose(-2, -1) if k & 4 else x
    axes = [axis for axis, bit in ((-2, 2), (-1, 1)) if k & bit]
    return x.flip(axes) if axes else x


def inverse(k: int) -> int:
    """The number of the symmetry that undoes the one of number ``k``."""
    return 4 | (k & 1) << 1 | (k & 2) >> 1 if k & 4 else k


def symmetries(height: int, width: int) -> int:
    """How many of the eight, counted from 0, keep images of this size as large as they are."""
    return NUM_DIHEDRAL if height == width else NUM_FLIPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to see a batch of images: a part of each, flipped or rotated.

    Attributes:
        size: height and width of the whole images in pixels.
        top, left: where the part begins.
        part: its height and width.
        orientation: the symmetry of each image, ``(B,)``, 0 to 7; below 4 where the part is no square.
    """

    size: tuple[int, int]
    top: int
    left: int
    part: tuple[int, int]
    orientation: Tensor

    def of(self, t: Tensor) -> Tensor:
        """The same part of ``(B, ..., H', W')``, which may be larger or smaller than the images; a vector stays."""
        if t.ndim < 3:
            return t
        (top, height), (left, width) = (
            (at * length // total, size * length // total)
            for at, size, length, total in zip((self.top, self.left), self.part, t.shape[-2:], self.size, strict=True)
        )
        part = t[..., top : top + height, left : left + width]
        return dihedral(part, self.orientation) if self.orientation.any() else part

    def batch(self, batch: Batch) -> Batch:
        """The same part of every view in a batch; its ``real`` images belong to none and stay."""
        told: dict[str, Any] = {
            name: {key: self.of(t) if _is_map(t, batch) else t for key, t in each.items()}
            for name, each in batch.conditions().items()
        }
        return replace(
            batch,
            x=self.of(batch.x),
            teacher_x=None if batch.teacher_x is None else self.of(batch.teacher_x),
            y=None if batch.y is None else self.of(batch.y),
            truths={name: self.of(t) for name, t in batch.truths.items()},
            part_x={name: self.of(t) for name, t in batch.part_x.items()},
            **told,
        )


def drawn(
    batch: Batch, *, crop: int | None, turn: bool, random: torch.Generator, others: Iterable[Tensor] = ()
) -> Variant:
    """A variant of a batch by chance, which begins and ends between pixels of each view, larger or smaller ones too.

    Args:
        batch: ``x`` is ``(B, ..., H, W)``.
        crop: height and width of the part; None is the whole.
        turn: whether to flip and rotate.
        random: where it is drawn from.
        others: what else will be cut alike, an answer.

    Raises:
        UserError: for a part that is larger than the images, or that would cut through pixels of a view.
    """
    height, width = batch.x.shape[-2:]
    check_crop(crop, batch)
    part, steps = (crop or height, crop or width), strides(batch, others)
    top, left = (
        step * int(torch.randint((total - size) // step + 1, (), generator=random))
        for step, total, size in zip(steps, (height, width), part, strict=True)
    )
    kinds = symmetries(*part) if turn else 1
    orientation = torch.randint(kinds, (len(batch.x),), generator=random)
    return Variant(size=(height, width), top=top, left=left, part=part, orientation=orientation)


def check_crop(crop: int | None, batch: Batch) -> None:
    """Refuse a part that is larger than images ``(B, ..., H, W)``, or would cut through pixels of a view of theirs.

    Raises:
        UserError: saying what is possible.
    """
    if crop is None:
        return
    if batch.x.ndim < 3:
        raise UserError(text("crop_no_images", "cache.crop is {crop}, and inputs {shape} are no images: set it to "
                             "null", crop=crop, shape=str(tuple(batch.x.shape[1:]))))  # fmt: skip
    (height, width), step = batch.x.shape[-2:], math.lcm(*strides(batch))
    if crop > min(height, width) or crop % step:
        fit = "" if step == 1 else text("crop_multiple", ", a multiple of {step}", step=step)
        raise UserError(text("crop_too_large", "cache.crop is {crop}, and inputs have {height}x{width} pixels: set "
                             "it to at most {most}{fit}, or to null", crop=crop, height=height, width=width,
                             most=min(height, width), fit=fit))  # fmt: skip


def strides(batch: Batch, others: Iterable[Tensor] = ()) -> tuple[int, int]:
    """How many rows and columns of the images lie between places where pixels of all views begin."""
    views = [batch.x, batch.teacher_x, batch.y, *batch.truths.values(), *batch.part_x.values(), *others]
    views += [t for each in batch.conditions().values() for t in each.values() if _is_map(t, batch)]
    maps = [t for t in views if t is not None and t.ndim > 2]
    down, across = (
        math.lcm(*(size // math.gcd(size, t.shape[axis]) for t in maps))
        for axis, size in ((-2, batch.x.shape[-2]), (-1, batch.x.shape[-1]))
    )
    return down, across


def _is_map(t: Tensor, batch: Batch) -> bool:
    """Whether a condition says something of each place: it has the images' rank, or exactly their height and width."""
    return t.ndim >= max(batch.x.ndim, 3) or is_map(t, batch.x)
