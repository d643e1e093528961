"""Procedural images with the statistics of photographs: dead leaves.

Lee, Mumford & Huang, "Occlusion models for natural images: a statistical study of a scale-invariant dead leaves
model", IJCV 41, 2001: opaque leaves fall one on another at uniform places, with radii of density proportional to
r^-3, which makes the images look the same at every scale.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from kdgen.registry import register
from kdgen.types.arguments import Share
from kdgen.utils.seed import derive, generator

CANVAS = 256
SUPERSAMPLING = 2
CHUNK = 2**18
KEPT = 4
"""Draws of at most ``SMALL`` numbers that are kept: a run asks for its first images several times as it begins."""
SMALL = 2**22
kept: dict[tuple[object, ...], Tensor] = {}
"""Them, for all sources of the same arguments: by these and what was asked for."""


@register("images")
class DeadLeaves:
    """Dead leaves: discs, ellipses and rectangles that hide one another, shaded and textured; endless, no download.

    Leaves are painted at twice the resolution on canvases of about 256x256 pixels and averaged down, and each canvas
    is cut into patches that do not overlap; patches then come in random order.

    Args:
        smallest: radius of the smallest leaves in pixels; each canvas multiplies it by 1 to 12, as if seen from nearer.
        cover: area of all leaves together, as a multiple of the canvas.
        shading: contrast of the linear shading across a leaf, as a share of the whole range.
        texture: contrast of the texture on a leaf, as a share of the whole range.

    Raises:
        UserError: for a number that is out of range.
    """

    num_textures = 2

    def __init__(
        self,
        smallest: Annotated[float, Field(ge=0.5, le=64)] = 1.0,
        cover: Annotated[float, Field(gt=0, le=20)] = 3.5,
        shading: Share = 0.15,
        texture: Share = 0.2,
    ) -> None:
        self.smallest, self.cover, self.shading, self.texture = smallest, cover, shading, texture

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Patches ``(count, channels, size, size)`` float32 in [-1, 1], a pure function of the arguments."""
        asked = (type(self), repr(vars(self)), count, size, channels, seed)
        if (patches := kept.get(asked)) is None:
            patches = self._drawn(count, size, channels, seed)
            if patches.numel() > SMALL:
                return patches
            kept[asked] = patches
            if len(kept) > KEPT:
                kept.pop(next(iter(kept)), None)
        return patches.clone()

    def _drawn(self, count: int, size: int, channels: int, seed: int) -> Tensor:
        per_side = max(CANVAS // size, 1)
        extent = size * per_side
        num_canvases = math.ceil(count / per_side**2)
        canvases = [self.canvas(extent, channels=channels, seed=derive(seed, i)) for i in range(num_canvases)]
        cut = torch.stack(canvases).unfold(2, size, size).unfold(3, size, size)
        patches = cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, size, size)
        return patches[torch.randperm(len(patches), generator=generator(seed, "order"))[:count]]

    def fingerprint(self) -> str:
        """The arguments, and a hash of one patch, which changes with the way leaves are painted."""
        sample = self.patches(1, 32, channels=1, seed=0).numpy().tobytes()
        arguments = (self.smallest, self.cover, self.shading, self.texture)
        return f"dead_leaves{arguments}{hashlib.sha256(sample).hexdigest()}"

    def canvas(self, extent: int, *, channels: int, seed: int) -> Tensor:
        """One whole image ``(channels, extent, extent)`` float32 in [-1, 1]."""
        random = generator(seed, "canvas")
        leaves = self._leaves(extent * SUPERSAMPLING, random)
        top = paint(leaves, extent * SUPERSAMPLING)
        colour = _colours(len(leaves.x) + 1, channels, random)
        fine = colour[:, top.flatten()].view(1, channels, *top.shape)
        flat = F.avg_pool2d(fine, SUPERSAMPLING)[0]
        return (flat + self._relief(leaves, top[::SUPERSAMPLING, ::SUPERSAMPLING], random)).clamp_(-1, 1)

    def _leaves(self, extent: int, random: Generator) -> "Leaves":
        closeness = 12 ** torch.rand(1, generator=random).item()
        smallest, largest = self.smallest * SUPERSAMPLING * closeness, 0.75 * extent
        mean_area = 2 * math.pi * math.log(largest / smallest) / (smallest**-2 - largest**-2)
        count = math.ceil(self.cover * extent**2 / mean_area)
        u, x, y, turn, stretch = torch.rand(5, count, generator=random)
        radius = (smallest**-2 + u * (largest**-2 - smallest**-2)).rsqrt()
        stretch = (3 * stretch - 1).clamp_min(0).exp2().minimum(radius / smallest).sqrt()
        reach = extent + 2 * radius
        return Leaves(
            x=x * reach - radius,
            y=y * reach - radius,
            long=radius * stretch,
            short=radius / stretch,
            angle=2 * math.pi * turn,
            rectangle=torch.rand(count, generator=random) < 0.4,
        )

    def _relief(self, leaves: "Leaves", top: Tensor, random: Generator) -> Tensor:
        """Shading and texture ``(H, W)`` of the topmost leaf at each pixel."""
        count, extent = len(leaves.x), top.shape[-1]
        angle, shade, grain = torch.rand(3, count, generator=random)
        slope = self.shading * shade / leaves.long
        across, down = slope * angle.mul_(2 * math.pi).cos(), slope * angle.sin()
        level = -(across * leaves.x + down * leaves.y)
        offset = torch.randint((self.num_textures - 1) * extent**2, (count,), generator=random)
        grain = 2 * self.texture * (2 * grain - 1).clamp_min(0)
        of_leaf = F.pad(torch.stack([across, down, level, grain, offset]), (1, 0))
        across, down, level, grain, offset = of_leaf[:, top.flatten()].view(5, *top.shape)
        at = SUPERSAMPLING * (torch.arange(extent) + 0.5)
        place = torch.arange(extent**2).view(extent, extent) + offset.long()
        relief: Tensor = across * at + down * at[:, None] + level + grain * self._textures(extent, random)[place]
        return relief

    def _textures(self, extent: int, random: Generator) -> Tensor:
        """Textures one after another, ``(num_textures * extent**2,)``: each leaf shows ``extent**2`` of them."""
        return torch.cat([cloud(extent, exponent, random).flatten() for exponent in (0.5, 1.2)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Leaves from the lowest to the topmost, each attribute ``(N,)``: centres, half axes in pixels, angle, shape."""

    x: Tensor
    y: Tensor
    long: Tensor
    short: Tensor
    angle: Tensor
    rectangle: Tensor


def paint(leaves: Leaves, extent: int) -> Tensor:
    """The number of the topmost leaf at each pixel, ``(extent, extent)`` int64, counted from 1; 0 where there is none.

    Leaves of like size are tested together, each on the pixels of a box around it.
    """
    top = torch.zeros(extent**2, dtype=torch.int32)
    cos, sin = leaves.angle.cos(), leaves.angle.sin()
    corner = torch.where(leaves.rectangle, 0.8, 1.0)
    wide = torch.where(
        leaves.rectangle,
        corner * (leaves.long * cos.abs() + leaves.short * sin.abs()),
        torch.hypot(leaves.long * cos, leaves.short * sin),
    )
    high = torch.where(
        leaves.rectangle,
        corner * (leaves.long * sin.abs() + leaves.short * cos.abs()),
        torch.hypot(leaves.long * sin, leaves.short * cos),
    )
    box = (2 * torch.maximum(wide, high)).ceil().add(1).log2().mul(2).ceil()
    number = torch.arange(1, len(leaves.x) + 1, dtype=torch.int32)
    for half_octave in sorted(set(box.tolist())):
        side = min(math.ceil(2 ** (half_octave / 2)), extent)
        like = box == half_octave
        for rectangle in (False, True):
            chosen = (like & (leaves.rectangle == rectangle)).nonzero()[:, 0]
            for k in chosen.split(max(CHUNK // side**2, 1)):
                left = (leaves.x[k] - side / 2).round().clamp(0, extent - side)
                upper = (leaves.y[k] - side / 2).round().clamp(0, extent - side)
                dx = (left - leaves.x[k])[:, None] + torch.arange(side) + 0.5
                dy = (upper - leaves.y[k])[:, None] + torch.arange(side) + 0.5
                along, aside = 1 / (corner[k] * leaves.long[k]), 1 / (corner[k] * leaves.short[k])
                u = (dx * (cos[k] * along)[:, None])[:, None] + (dy * (sin[k] * along)[:, None])[..., None]
                v = (dy * (cos[k] * aside)[:, None])[..., None] - (dx * (sin[k] * aside)[:, None])[:, None]
                inside = torch.maximum(u.abs_(), v.abs_()) < 1 if rectangle else u.square_().add_(v.square_()) < 1
                pixels = torch.arange(side)[:, None] * extent + torch.arange(side)
                place = (upper.long() * extent + left.long())[:, None, None] + pixels
                top.scatter_reduce_(0, place.flatten(), (inside * number[k, None, None]).flatten(), "amax")
    return top.view(extent, extent).long()


def cloud(extent: int, exponent: float, random: Generator) -> Tensor:
    """Gaussian noise ``(extent, extent)`` whose amplitude falls as frequency^-exponent, mean 0, variance 1."""
    return coloured(frequency(extent).pow(-exponent), random)


def frequency(extent: int, *, angle: float = 0.0, stretch: float = 1.0) -> Tensor:
    """Frequencies of ``rfft2`` in cycles a pixel, ``(extent, extent // 2 + 1)``, the lowest in place of zero.

    Args:
        extent: height and width of the image.
        angle: direction of what is stretched, in radians.
        stretch: how many times longer than wide structures of one frequency are.
    """
    down, across = torch.fft.fftfreq(extent)[:, None], torch.fft.rfftfreq(extent)
    along = stretch * (math.cos(angle) * down - math.sin(angle) * across)
    aside = math.sin(angle) * down + math.cos(angle) * across
    return torch.hypot(along, aside).clamp_min(1 / extent)


def coloured(gain: Tensor, random: Generator) -> Tensor:
    """Gaussian noise of mean 0 and variance 1 with amplitudes in proportion to ``gain`` of each frequency."""
    extent = len(gain)
    white = torch.fft.rfft2(torch.randn(extent, extent, generator=random)) * gain
    white[0, 0] = 0
    noise: Tensor = torch.fft.irfft2(white, s=(extent, extent))
    return noise / noise.std()


def _colours(count: int, channels: int, random: Generator) -> Tensor:
    """Colours ``(channels, count)``: uniform luminance, and chroma of a strength and tint that the canvas shares."""
    luminance = 2 * torch.rand(1, count, generator=random) - 1
    if channels == 1:
        return luminance
    tint = 0.15 * torch.randn(channels, 1, generator=random)
    chroma = 0.5 * torch.rand(1, generator=random) * torch.randn(channels, count, generator=random)
    chroma = (tint + chroma) * (1 - luminance.abs())
    return luminance + chroma - chroma.mean(0)


__all__ = ["DeadLeaves", "Leaves", "cloud", "coloured", "frequency", "paint"]
