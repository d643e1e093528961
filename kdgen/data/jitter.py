"""Small random changes of whole images: size, place, angle, mirror image, light and colour."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.data.whole import border
from kdgen.registry import nearest
from kdgen.types import UserError, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """How much images are changed, each by itself. What comes in from outside has the value of the image's border.

    Attributes:
        scale: the size is divided or multiplied by up to ``1 + scale``.
        shift: the place moves by up to this share of the side.
        rotation: the angle turns by up to so many degrees, either way.
        colour: contrast changes by up to this share, and each channel's level by up to this much, in [-1, 1]; of a
            photograph alone, whatever is stacked behind it.
        flip: the share of images that are mirrored left to right.

    Raises:
        UserError: for an amount below 0, and a scale or a flip above 1.
    """

    scale: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    colour: float = 0.0
    flip: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            most = 1 if each.name in ("scale", "flip") else math.inf
            if not isinstance(value, int | float) or not 0 <= value <= most or not math.isfinite(value):
                figures = {"name": each.name, "value": repr(value)}
                raise UserError(text("jitter_share", "jitter: {name} is a number from 0 to 1, not {value}", **figures)
                                if most == 1 else
                                text("jitter_number", "jitter: {name} is a number from 0 on, not {value}", **figures)
                                )  # fmt: skip

    def __call__(self, x: Tensor, random: torch.Generator, photograph: int | None = None) -> Tensor:
        """Changed images.

        Args:
            x: ``(B, C, H, W)``, H = W.
            random: a CPU generator.
            photograph: how many of the first channels are those of a photograph in [-1, 1]; all if not given.

        Returns:
            ``(B, C, H, W)``; where colours were changed, these are clipped to [-1, 1].
        """
        size, angle, right, down, mirror, contrast = (2 * torch.rand(6, len(x), generator=random) - 1).to(x).unbind()
        level = 2 * torch.rand(*x.shape[:2], 1, 1, generator=random).to(x) - 1
        if self.scale or self.shift or self.rotation:
            grow = torch.exp(-size * math.log1p(self.scale))
            sine, cosine = (grow * f(angle * math.radians(self.rotation)) for f in (torch.sin, torch.cos))
            rows = (cosine, -sine, 2 * self.shift * right, sine, cosine, 2 * self.shift * down)
            grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
            around = border(x)
            x = F.grid_sample(x - around, grid, align_corners=False) + around
        if self.flip:
            x = torch.where((mirror < 2 * self.flip - 1)[:, None, None, None], x.flip(-1), x)
        if self.colour:
            seen, behind = x[:, :photograph], x[:, x.shape[1] if photograph is None else photograph :]
            tinted = seen * (1 + self.colour * contrast[:, None, None, None]) + self.colour * level[:, :photograph]
            x = torch.cat([tinted.clamp(-1, 1), behind], 1)
        return x


STRONG = Jitter(scale=0.25, shift=0.1, rotation=15.0, colour=0.3)
"""Enough to make one picture a class of its own."""

LIGHT = Jitter(scale=0.1, shift=0.08)
"""What leaves every class what it is."""


Amounts = Annotated[Mapping[str, float] | Jitter, Field(description='described as {"scale": 0.1, ...}')]
"""An argument of which ``make_jitter`` makes a jitter."""


def make_jitter(description: Mapping[str, Any] | Jitter) -> Jitter:
    """A jitter from its description, ``{"scale": 0.1, "flip": 0.5}``.

    Raises:
        UserError: for an unknown word or an amount that does not fit.
    """
    if isinstance(description, Jitter):
        return description
    names = [each.name for each in fields(Jitter)]
    if not isinstance(description, Mapping):
        raise UserError(text("no_jitter", 'jitter is described as {{"{name}": 0.1, ...}}, not as {given}',
                             name=names[0], given=repr(description)))  # fmt: skip
    for key in description:
        if key not in names:
            raise UserError(text("no_jitter_called", "jitter has no {key!r}{nearest}", key=key,
                                 nearest=nearest(key, names)))  # fmt: skip
    return Jitter(**description)
