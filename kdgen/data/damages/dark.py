"""Too little light."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

FAINT = 1e-4
"""Mean light in [0, 1] below which an image counts as black."""


@register("damage")
class Dark(Damage):
    """Underexposed: ``gain v^gamma`` of light ``v`` in [0, 1], with the noise of a sensor that has few photons.

    ``cond["stops"]`` tells by how much, ``(B,)``: how many times the mean of the light was halved.

    Args:
        gain: of the light, above 0 to 1. A ``share`` of its range counts from the brightest to the darkest.
        gamma: by which shadows lose more than lights, 1 to 5.
        noise: standard deviation of a sensor's own noise in 8-bit units of the dark image, 0 to 50.
        photons: what a white pixel of the dark image is the count of, 1 to 1e6; none leaves out what light adds.
    """

    def __init__(
        self, gain: Amount = (0.1, 0.6), gamma: Amount = (1.0, 2.5), noise: Amount = (0.0, 3.0),
        photons: Amount | None = None,
    ) -> None:  # fmt: skip
        check_amount("dark", "gain", gain, 0.01, 1)
        check_amount("dark", "gamma", gamma, 1, 5)
        check_amount("dark", "noise", noise, 0, 50)
        if photons is not None:
            check_amount("dark", "photons", photons, 1, 1e6)
        self.gain, self.gamma, self.noise, self.photons = gain, gamma, noise, photons

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base; clipped to [-1, 1], as sensors do."""
        count, inverse = len(images), None if share is None else 1 - share
        gain = amounts(self.gain, count, random, inverse)[:, None, None, None]
        gamma = amounts(self.gamma, count, random, share)[:, None, None, None]
        before = (images.clamp(-1, 1) + 1) / 2
        light = gain * before**gamma
        variance = (amounts(self.noise, count, random, share)[:, None, None, None] / 255) ** 2
        if self.photons is not None:
            variance = variance + light / amounts(self.photons, count, random, inverse)[:, None, None, None]
        noise = torch.randn(images.shape, generator=random)
        stops = (before.mean((1, 2, 3)).clamp_min(FAINT) / light.mean((1, 2, 3)).clamp_min(FAINT)).log2()
        return (2 * (light + variance.sqrt() * noise) - 1).clamp(-1, 1), {"stops": stops}

    def nothing(self, images: Tensor) -> Mapping[str, Tensor]:
        """See the base."""
        return {"stops": torch.zeros(len(images))}
