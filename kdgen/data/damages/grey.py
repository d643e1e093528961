"""No colour."""

import torch
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged
from kdgen.data.pictures import to_grey
from kdgen.registry import register


@register("damage")
class Grey(Damage):
    """The luma of colour images, in as many channels as they have; others stay. What colouring undoes."""

    graded = False

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        if images.shape[1] != 3:
            return images, {}
        return to_grey(images).expand_as(images).contiguous(), {}
