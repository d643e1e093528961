"""What leaves are made of: noise with a direction or period, waves or two tones, as fur, bark, weave and sand have."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdgen.data.dead_leaves import cloud, coloured, frequency

DIRECTED, PERIODIC, TWO_TONES, WAVY = 0.6, 0.3, 0.3, 0.5
"""Shares of the materials that have a direction, a period, two tones, and waves in them."""

LONGEST = 8.0
"""How many times the longest fibres are longer than wide."""

WAVES = 6.0
"""Pixels by which waves move what they move, their standard deviation."""


def material(extent: int, random: Generator) -> Tensor:
    """One texture ``(extent, extent)`` of mean 0 and about variance 1."""
    kind, period, steep, long, band, angle = torch.rand(6, generator=random).tolist()
    two_tones, balance, wavy = torch.rand(3, generator=random).tolist()
    stretch = LONGEST**long if kind < DIRECTED else 1.0
    at = frequency(extent, angle=math.pi * angle, stretch=stretch)
    if period < PERIODIC:
        centre = 0.03 * 10**steep
        noise = coloured(torch.exp(-0.5 * ((at / centre).log() / (0.15 + 0.35 * band)).square()), random)
    else:
        noise = coloured(at.pow(-(0.4 + 1.2 * steep)), random)
    if two_tones < TWO_TONES:
        noise = torch.tanh(2 * noise + 2 * balance - 1)
        noise = (noise - noise.mean()) / noise.std()
    return waved(noise, random) if wavy < WAVY else noise


def waved(noise: Tensor, random: Generator) -> Tensor:
    """A texture ``(H, H)``, each pixel taken from some pixels away, neighbours from nearly the same direction."""
    extent = len(noise)
    flow = WAVES * torch.stack([cloud(extent, 2.0, random) for _ in range(2)], -1)
    line = torch.arange(extent) + 0.5
    at = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) + flow
    grid = (2 * at / extent - 1)[None]
    return F.grid_sample(noise[None, None], grid, padding_mode="reflection", align_corners=False)[0, 0]
