"""TAESD with pooled blocks at its smallest resolution, as TAEF2: github.com/madebyollin/taesd.

An image becomes latents of an eighth of its size, and is made of them again. The published weights are for images in
[0, 1]; these nets convert, so that a checkpoint is declared with the range [-1, 1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdgen.registry import register
from kdgen.types import UserError

WIDTH = 64


class Clamp(nn.Module):
    """``3 * tanh(x / 3)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, Z, h, w)`` to the same."""
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions and a skip; a block that pools adds a grouped normalisation over the whole image before."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
        wide = 4 * WIDTH
        self.pool = nn.Sequential(nn.Conv2d(WIDTH, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(),
                                  nn.Conv2d(wide, WIDTH, 1, bias=False)) if pooled else None  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``(B, WIDTH, H, W)`` to the same."""
        x = x if self.pool is None else x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Encoder(nn.Sequential):
    """The net of ``taesd_encoder``."""

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:  # type: ignore[override]
        """Images ``(B, C, H, W)`` in [-1, 1] to latents ``(B, Z, H/8, W/8)``."""
        latents: Tensor = super().forward((x + 1) / 2)
        return latents


class Decoder(nn.Sequential):
    """The net of ``taesd_decoder``.

    Attributes:
        blocks: how many there are before each doubling, and at last.
    """

    def __init__(self, channels: int, latent: int, blocks: Sequence[int]) -> None:
        *stages, last = blocks
        layers: list[nn.Module] = [Clamp(), conv(latent), nn.ReLU()]
        for number, count in enumerate(stages):
            layers += [*stretch(count, pooled=number == 0), nn.Upsample(scale_factor=2), conv(bias=False)]
        super().__init__(*layers, *stretch(last), conv(WIDTH, channels))
        self.blocks = tuple(blocks)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:  # type: ignore[override]
        """Latents ``(B, Z, h, w)`` to images ``(B, C, 8 * h, 8 * w)`` about [-1, 1]."""
        image: Tensor = 2 * super().forward(x) - 1
        return image

    @torch.no_grad()
    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a deeper decoder, of each stretch the first blocks."""
        if not isinstance(teacher, Decoder) or any(n > of for n, of in zip(self.blocks, teacher.blocks, strict=True)):
            raise UserError("a taesd_decoder starts from another with as many blocks or more")
        for mine, theirs in zip(self._parts(), teacher._parts(), strict=True):
            for layer, source in zip(mine, theirs, strict=False):
                layer.load_state_dict(source.state_dict())

    def _parts(self) -> list[list[nn.Module]]:
        """The layers that are no blocks, and the blocks of each stretch."""
        parts: list[list[nn.Module]] = [[layer for layer in self if not isinstance(layer, Block)], []]
        for layer in self:
            if isinstance(layer, Block):
                parts[-1].append(layer)
            elif isinstance(layer, nn.Upsample):
                parts.append([])
        return parts


def conv(inputs: int = WIDTH, outputs: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution of 3x3."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


def stretch(count: int, *, pooled: bool = False) -> list[nn.Module]:
    """Blocks one after another."""
    return [Block(pooled) for _ in range(count)]


@register("net")
def taesd_encoder(channels: int = 3, latent: int = 32) -> Encoder:
    """The encoder of TAEF2: images to latents of an eighth of their size."""
    down = [layer for pooled in (False, False, True)
            for layer in (conv(stride=2, bias=False), *stretch(3, pooled=pooled))]  # fmt: skip
    return Encoder(conv(channels), *stretch(1), *down, conv(WIDTH, latent))


@register("net")
def taesd_decoder(channels: int = 3, latent: int = 32, blocks: Sequence[int] = (3, 3, 3, 1)) -> Decoder:
    """The decoder of TAEF2: latents to images of eight times their size; or one of fewer blocks."""
    return Decoder(channels, latent, blocks)
