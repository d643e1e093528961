"""Several pictures of one scene, one after another."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

Gains = Annotated[
    list[Annotated[float, Field(gt=0, le=64)]],
    Field(min_length=1, max_length=32, description="a list of up to 32 numbers above 0 and at most 64"),
]


@register("damage")
class Exposures(Damage):
    """Several exposures of the same scene as channels, ``(B, n C, H, W)``: all channels of the first, then the next.

    A pixel of light ``v`` in [0, 1] becomes ``gain v``, with noise of its own in each exposure of a variance of
    ``gain v / photons + (noise / 255)^2`` (Foi et al. 2008, TIP 17(10)), clipped to [-1, 1] as sensors do. From one
    seed the first exposures are the same however many follow, so that a student's single one is among its teacher's.

    Args:
        gains: how bright each exposure is, above 0; 1 keeps the light. ``[1, 1, 1, 1]`` is a burst, ``[0.25, 1, 4]`` a
            bracket.
        noise: standard deviation of the sensor's own noise in 8-bit units, 0 to 100, the same in all of them.
        photons: what a white pixel of an exposure is the count of, 1 to 1e6; none leaves out what light adds.
    """

    def __init__(self, gains: Gains = [1.0] * 4, noise: Amount = 25.0, photons: Amount | None = None) -> None:
        check_amount("exposures", "noise", noise, 0, 100)
        if photons is not None:
            check_amount("exposures", "photons", photons, 1, 1e6)
        self.gains, self.noise, self.photons = gains, noise, photons

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        count = len(images)
        variance = (amounts(self.noise, count, random, share)[:, None, None, None] / 255) ** 2
        # fewer photons are stronger
        photons = None if self.photons is None else \
            amounts(self.photons, count, random, None if share is None else 1 - share)[:, None, None, None]  # fmt: skip
        before, taken = (images.clamp(-1, 1) + 1) / 2, []
        for gain in self.gains:
            light = gain * before
            scale = (variance if photons is None else variance + light / photons).sqrt()
            taken.append(light + scale * torch.randn(images.shape, generator=random))
        return (2 * torch.cat(taken, 1) - 1).clamp(-1, 1), {}

    def num_channels(self, given: int) -> int:
        """See the base."""
        return len(self.gains) * given
