"""The damage of photographs found on the web, without knowing it."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.blur import Blur
from kdgen.data.damages.damage import Damage, Damaged
from kdgen.data.damages.jpeg import Jpeg
from kdgen.data.damages.noise import Noise
from kdgen.data.damages.shrink import check_multiple
from kdgen.registry import register

Scale = Annotated[int, Field(ge=1, le=8)]
SIZES = ((0.15, 1.5), (0.3, 1.2))
"""From which factor to which images are resized in each of the two rounds, in proportion to the scale 4."""

RINGING = 0.8
"""Share of images that end with an overshoot at edges."""


@register("damage")
class Real(Damage):
    """Blur, resizing, noise and JPEG, twice over, each drawn anew: the second-order mix of Real-ESRGAN.

    Wang et al. 2021, arXiv 2107.10833, section 3.2; the sinc filter of its end (section 3.3) is a low pass in the
    frequency domain here.

    Args:
        scale: how many times less high and wide images become, 1 to 8.
    """

    def __init__(self, scale: Scale = 4) -> None:
        self.scale = scale
        self.rounds = (
            (Blur((0.2, 3.0), ratio=(0.3, 1.0)), Noise((1.0, 30.0)), Noise(0.0, (80.0, 3000.0)), Jpeg((30.0, 95.0))),
            (Blur((0.2, 1.5), ratio=(0.3, 1.0)), Noise((1.0, 25.0)), Noise(0.0, (100.0, 3000.0)), Jpeg((30.0, 95.0))),
        )

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base; every image goes its own way, whatever the ``share``, which only settles how strong each is."""
        check_multiple(images, self.scale)
        return torch.cat([self._one(image[None], random, share) for image in images]), {}

    def _one(self, image: Tensor, random: torch.Generator, share: float | None) -> Tensor:
        final = [length // self.scale for length in image.shape[-2:]]
        for number, ((blur, gaussian, photons, jpeg), (low, high)) in enumerate(zip(self.rounds, SIZES, strict=True)):
            image, _ = blur(image, random, share)
            image = _sized(image, [round(length * _between(low, high, random)) for length in image.shape[-2:]], random)
            image, _ = (gaussian if _between(0, 1, random) < 0.5 else photons)(image, random, share)
            image = image.clamp(-1, 1)
            if number:
                image = _sized(image, final, random)
                image = _ringing(image, random) if _between(0, 1, random) < RINGING else image
            image, _ = jpeg(image, random, share)
        return image


def _between(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))


def _sized(image: Tensor, size: list[int], random: torch.Generator) -> Tensor:
    """An image in another size, by a kernel that is drawn."""
    size = [max(length, 2) for length in size]
    how = ("area", "bilinear", "bicubic")[int(torch.randint(3, (), generator=random))]
    if how == "area":
        return F.interpolate(image, size, mode="area")
    return F.interpolate(image, size, mode=how, antialias=True)


def _ringing(image: Tensor, random: torch.Generator) -> Tensor:
    """Frequencies above a bound are cut off sharply, which leaves waves beside edges."""
    height, width = image.shape[-2:]
    bound = _between(1 / 3, 1, random) / 2
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    kept: Tensor = torch.fft.rfft2(image) * ((down**2 + across**2).sqrt() <= bound)
    sharp: Tensor = torch.fft.irfft2(kept, s=(height, width))
    return sharp.clamp(-1, 1)
