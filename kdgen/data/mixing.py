"""Two images in one, with both classes as the truth. Images are mixed one by one, each with the one before it."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mix = Literal["mixup", "cutmix", "both"]
"""How images are mixed; ``both`` is one of the two by chance, for each batch."""


def mixed(x: Tensor, labels: Tensor, *, num_classes: int, how: Mix, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images mixed in pairs. Shares are drawn evenly from [0, 1], the Beta(1, 1) of both papers' CIFAR-10.

    Args:
        x: ``(B, C, H, W)``, any range.
        labels: ``(B,)`` int64.
        num_classes: K.
        how: see ``mixup`` and ``cutmix``.
        random: a CPU generator.

    Returns:
        the images ``(B, C, H, W)``, and the shares of their classes ``(B, K)``, which sum to 1.
    """
    if how == "both":
        how = "mixup" if torch.rand((), generator=random) < 0.5 else "cutmix"
    mask = (mixup if how == "mixup" else cutmix)(x, random)
    y, share = F.one_hot(labels, num_classes).float(), mask.expand(-1, 1, *x.shape[-2:]).mean((1, 2, 3))[:, None]
    return mask * x + (1 - mask) * x.roll(1, 0), share * y + (1 - share) * y.roll(1, 0)


def mixup(x: Tensor, random: torch.Generator) -> Tensor:
    """The share ``(B, 1, 1, 1)`` of each image in its mixture: Zhang et al. 2018 (arXiv 1710.09412), section 2."""
    return torch.rand(len(x), 1, 1, 1, generator=random)


def cutmix(x: Tensor, random: torch.Generator) -> Tensor:
    """1 outside of a box and 0 within, ``(B, 1, H, W)``: Yun et al. 2019 (arXiv 1905.04899), eq. 2.

    The box has the sides ``sqrt(1 - share)`` of the image's and its middle anywhere, and is cut off at the edges.
    """
    share, down, right = torch.rand(3, len(x), 1, generator=random).unbind()
    rows, columns = (
        ((torch.arange(extent) + 0.5) / extent - middle).abs() >= (1 - share).sqrt() / 2
        for extent, middle in zip(x.shape[-2:], (down, right), strict=True)
    )
    return (rows[:, None, :, None] | columns[:, None, None, :]).float()


__all__ = ["Mix", "mixed"]
