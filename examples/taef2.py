"""The two halves of TAEF2, a tiny autoencoder of natural images (Ollin Boer Bohan, github.com/madebyollin/taesd).

Latents have 32 channels and an eighth of the image's size. The encoder reads images in [0, 1]: declare that range.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdgen import register

WIDTH, LATENT = 64, 32


class Residual(nn.Module):
    """``relu(h + conv(h))``; where pooled, ``h`` is first added a group-normalised bottleneck of itself."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.pool = None
        if pooled:
            wide = 4 * WIDTH
            enter, leave = nn.Conv2d(WIDTH, wide, 1, bias=False), nn.Conv2d(wide, WIDTH, 1, bias=False)
            self.pool = nn.Sequential(enter, nn.GroupNorm(4, wide), nn.ReLU(), leave)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 64, H, W)`` to the same."""
        h = x if self.pool is None else x + self.pool(x)
        return torch.relu(h + self.conv(h))


class Squash(nn.Module):
    """``3 tanh(x / 3)``: latents beyond 3 are pulled in."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return 3 * torch.tanh(x / 3)


@register("net")
class Taef2Encoder(nn.Sequential):
    """Images ``(B, 3, H, W)`` in [0, 1], of sizes divisible by 8, to latents ``(B, 32, H/8, W/8)``."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, padding=1), Residual()]
        for level in range(3):
            layers.append(nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False))
            layers += [Residual(pooled=level == 2) for _ in range(3)]
        super().__init__(*layers, nn.Conv2d(WIDTH, LATENT, 3, padding=1))


@register("net")
class Taef2Decoder(nn.Sequential):
    """Latents ``(B, 32, h, w)`` to images ``(B, 3, 8h, 8w)`` about [-1, 1].

    Args:
        blocks: residual blocks at an eighth, a quarter and half of the image's size.
        last: residual blocks at full size.
    """

    def __init__(self, blocks: Sequence[int] = (3, 3, 3), last: int = 1) -> None:
        layers: list[nn.Module] = [Squash(), nn.Conv2d(LATENT, WIDTH, 3, padding=1), nn.ReLU()]
        for level, count in enumerate(blocks):
            layers += [Residual(pooled=level == 0) for _ in range(count)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
        super().__init__(*layers, *(Residual() for _ in range(last)), nn.Conv2d(WIDTH, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Decode; the published weights say [0, 1]."""
        image: Tensor = super().forward(x)
        return 2 * image - 1

    def inherit(self, teacher: "Taef2Decoder") -> None:
        """Start from a deeper one: at each size its first blocks, as in BK-SDM (Kim et al. 2024, section 3.1)."""
        for ours, theirs in zip(self.sizes(), teacher.sizes(), strict=True):
            for kind in (nn.Conv2d, Residual):
                pairs = zip(*([m for m in layers if isinstance(m, kind)] for layers in (ours, theirs)), strict=False)
                for mine, yours in pairs:
                    mine.load_state_dict(yours.state_dict())

    def sizes(self) -> list[list[nn.Module]]:
        """Its layers, parted before each upsampling."""
        parted: list[list[nn.Module]] = [[]]
        for layer in self:
            if isinstance(layer, nn.Upsample):
                parted.append([])
            parted[-1].append(layer)
        return parted
