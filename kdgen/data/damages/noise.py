"""Noise, as sensors make it and as papers do."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register
from kdgen.types.arguments import LARGEST_SIGMA

Over = Annotated[Literal["each", "all"], Field(description='"each" channel its own noise, or "all" the same')]


@register("damage")
class Noise(Damage):
    """Additive Gaussian noise, or with ``photons`` that of a sensor: Poisson-Gaussian (Foi et al. 2008, TIP 17(10)).

    A pixel of light ``v`` in [0, 1] gets a variance of ``v / photons + (sigma / 255)^2``. Nothing is clipped.
    ``cond["sigma"]`` tells the Gaussian part, in units of the image range: ``2 sigma / 255``.

    Args:
        sigma: standard deviation in 8-bit units, 0 to 100.
        photons: what a white pixel is the count of, 1 to 1e6; none is noise that does not depend on light.
        channels: whether each has noise of its own, or all the same.
    """

    def __init__(self, sigma: Amount = 25.0, photons: Amount | None = None, channels: Over = "each") -> None:
        check_amount("noise", "sigma", sigma, 0, LARGEST_SIGMA)
        if photons is not None:
            check_amount("noise", "photons", photons, 1, 1e6)
        self.sigma, self.photons, self.channels = sigma, photons, channels

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        std = 2 / 255 * amounts(self.sigma, len(images), random, share)
        shape = images.shape if self.channels == "each" else (len(images), 1, *images.shape[2:])
        noise = torch.randn(shape, generator=random)
        scale = std[:, None, None, None]
        if self.photons is not None:
            # fewer photons are stronger
            photons = amounts(self.photons, len(images), random, None if share is None else 1 - share)
            light = (images.clamp(-1, 1) + 1) / 2
            scale = (scale**2 + 4 * light / photons[:, None, None, None]).sqrt()
        return images + scale * noise, {"sigma": std}

    def nothing(self, images: Tensor) -> Mapping[str, Tensor]:
        """See the base."""
        return {"sigma": torch.zeros(len(images))}
