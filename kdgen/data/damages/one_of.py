"""One damage of several."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged, check_same_channels, make_damages
from kdgen.registry import register
from kdgen.types import UserError, text

Choice = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
Choices = Annotated[Sequence[Choice], Field(min_length=1, description="a list of damages, or of lists of them in turn")]
USUAL = ("noise", "blur", "jpeg", "dark", "rain", "mask")


@register("damage")
class OneOf(Damage):
    """One of several for each image, drawn at random: what a generalist is trained on.

    Nets are told of an image what its own damage tells, and zeros of what the others would.

    Args:
        damages: names, ``{"name": ..., "args": {...}}``, or lists of these, which happen one after another.
    """

    def __init__(self, damages: Choices = USUAL) -> None:
        lists = [each if isinstance(each, Sequence) and not isinstance(each, str) else [each] for each in damages]
        self.damages = [make_damages(each) for each in lists]
        self.scale = self.damages[0].scale
        self.graded = any(each.graded for each in self.damages)
        if any(each.scale != self.scale for each in self.damages):
            raise UserError(text("scales_differ", "of several damages each image gets one, and they make images "
                                 "smaller by different scales ({scales:, }): give all the same",
                                 scales=[str(each.scale) for each in self.damages]))  # fmt: skip
        for each in self.damages:
            check_same_channels("one_of", each, 3)

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        drawn = torch.randint(len(self.damages), (len(images),), generator=random)
        damaged, untold = list[Tensor](), self.nothing(images[:1, :, :: self.scale, :: self.scale])
        told: list[Mapping[str, Tensor]] = []
        for image, number in zip(torch.split(images, 1), drawn.tolist(), strict=True):
            x, cond = self.damages[number](image, random, share)
            damaged.append(x)
            told.append({**untold, **cond})
        return torch.cat(damaged), {name: torch.cat([each[name] for each in told]) for name in told[0]}
