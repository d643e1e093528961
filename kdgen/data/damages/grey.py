"""No colour."""

import torch
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged
from kdgen.registry import register

BT601 = (0.299, 0.587, 0.114)
"""How much red, green and blue count in luma (ITU-R BT.601)."""


@register("damage")
class Grey(Damage):
    """The luma of colour images, in as many channels as they have: what colouring undoes."""

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        if images.shape[1] == 1:
            return images, {}
        luma = (images * torch.tensor(BT601).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return luma.expand_as(images).contiguous(), {}
