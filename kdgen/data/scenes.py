"""Procedural images with more of what photographs have: leaves of many materials, writing, shadows, lack of focus."""

import hashlib
import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from kdgen.data.dead_leaves import CANVAS, DeadLeaves, cloud, frequency
from kdgen.data.materials import material
from kdgen.data.overlays import lines, writing
from kdgen.registry import register
from kdgen.types.arguments import Share
from kdgen.utils.seed import generator

SOFTEST = 5.6
"""Largest standard deviation of what is out of focus, in pixels; the smallest is an eighth of it."""

SHADED = 0.3
"""Share of the canvases that soft shadows fall on."""


@register("images")
class Scenes(DeadLeaves):
    """Dead leaves of fur, weave and stripes, with writing, lines, shadows and a lack of focus; endless, no download.

    What dead leaves lack of photographs: textures that have a direction, fine lines, low contrast, edges of every
    softness.

    Args:
        smallest: radius of the smallest leaves in pixels; each canvas multiplies it by 1 to 12, as if seen from nearer.
        cover: area of all leaves together, as a multiple of the canvas.
        shading: contrast of the linear shading across a leaf, as a share of the whole range.
        texture: contrast of the texture on a leaf, as a share of the whole range.
        lines: share of the canvases with twigs, parallel lines or rows of windows.
        writing: share of the canvases with lines of text.
        focus: share of the canvases of which parts are out of focus.
        haze: how much of their contrast canvases lose at most.

    Raises:
        UserError: for a number that is out of range.
    """

    num_textures = 8

    def __init__(
        self,
        smallest: Annotated[float, Field(ge=0.5, le=64)] = 1.0,
        cover: Annotated[float, Field(gt=0, le=20)] = 3.5,
        shading: Share = 0.15,
        texture: Share = 0.3,
        lines: Share = 0.6,
        writing: Share = 0.4,
        focus: Share = 0.3,
        haze: Share = 0.7,
    ) -> None:
        super().__init__(smallest, cover, shading, texture)
        self.lines, self.writing, self.focus, self.haze = lines, writing, focus, haze

    def fingerprint(self) -> str:
        """The arguments, and a hash of one canvas, which changes with the way that scenes are painted."""
        arguments = (self.smallest, self.cover, self.shading, self.texture)
        shares = (self.lines, self.writing, self.focus, self.haze)
        full = Scenes(*arguments, lines=1, writing=1, focus=1, haze=self.haze)
        sample = hashlib.sha256(full.canvas(CANVAS, channels=1, seed=0).numpy().tobytes()).hexdigest()
        return f"scenes{(*arguments, *shares)}{sample}"

    def canvas(self, extent: int, *, channels: int, seed: int) -> Tensor:
        """One whole image ``(channels, extent, extent)`` float32 in [-1, 1]."""
        image, random = super().canvas(extent, channels=channels, seed=seed), generator(seed, "scene")
        lined, written, soft, shaded = torch.rand(4, generator=random).tolist()
        if lined < self.lines:
            image = lines(image, random)
        if written < self.writing:
            image = writing(image, random)
        if soft < self.focus:
            image = out_of_focus(image, random)
        if shaded < SHADED:
            image = in_shadow(image, random)
        return hazy(image, self.haze, random).clamp_(-1, 1)

    def _textures(self, extent: int, random: Generator) -> Tensor:
        return torch.cat([material(extent, random).flatten() for _ in range(self.num_textures)])


def out_of_focus(image: Tensor, random: Generator) -> Tensor:
    """An image ``(C, H, H)`` with another view of itself, softer, behind a wandering border of any sharpness."""
    extent = image.shape[-1]
    softness, where, sharp = torch.rand(3, generator=random).tolist()
    border = torch.sigmoid((cloud(extent, 1.8, random) + 2 * where - 1) * 3 * 10**sharp)
    behind = blurred(image.roll((extent // 3, extent // 2), (-2, -1)), SOFTEST * 8 ** (softness - 1))
    return image.lerp(behind, border)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """An image ``(C, H, H)`` under a Gaussian of a standard deviation in pixels, going on round its edges."""
    gain = torch.exp(-2 * (math.pi * sigma * frequency(image.shape[-1])).square())
    gain[0, 0] = 1
    soft: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * gain, s=image.shape[-2:])
    return soft


def in_shadow(image: Tensor, random: Generator) -> Tensor:
    """An image in [-1, 1] that soft shadows fall on."""
    lit: Tensor = (image + 1) * (1 - 0.4 * torch.sigmoid(3 * cloud(image.shape[-1], 2.0, random)))
    return lit - 1


def hazy(image: Tensor, most: float, random: Generator) -> Tensor:
    """An image in [-1, 1] that has lost up to ``most`` of its contrast, about any grey within the range."""
    lost, grey = torch.rand(2, generator=random).tolist()
    return torch.lerp(image, torch.full_like(image, 2 * grey - 1), most * lost)


__all__ = ["Scenes"]
