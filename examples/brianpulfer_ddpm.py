"""The U-Net of "Denoising Diffusion Probabilistic Models from scratch": github.com/BrianPulfer/PapersReimplementations.

It predicts the noise of images of 28x28 at one of 1,000 steps, and is wrapped to what kdgen calls a diffusion net.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from kdgen.diffusion import Timesteps, alphas_cumprod, linear_betas, scale_in, spread, to_denoised
from kdgen.registry import register

STEPS, TIME = 1000, 100


class Block(nn.Module):
    """Layer norm over channels and pixels, which one block has and leaves out, and two convolutions with SiLU."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.normed = True
        self.ln = nn.LayerNorm((inputs, size, size))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, size, size)`` to ``(B, outputs, size, size)``."""
        return silu(self.conv2(silu(self.conv1(self.ln(x) if self.normed else x))))


class Network(nn.Module):
    """``(B, 1, 28, 28)`` and the step to the noise: three levels down, one between, three up, all told the step."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Embedding(STEPS, TIME)
        for name, size, channels, told in (
            ("1", 28, (1, 10, 10, 10), 1), ("2", 14, (10, 20, 20, 20), 10), ("3", 7, (20, 40, 40, 40), 20),
            ("_mid", 3, (40, 20, 20, 40), 40), ("4", 7, (80, 40, 20, 20), 80), ("5", 14, (40, 20, 10, 10), 40),
            ("_out", 28, (20, 10, 10, 10), 20),
        ):  # fmt: skip
            setattr(self, f"te{name}", nn.Sequential(nn.Linear(TIME, told), nn.SiLU(), nn.Linear(told, told)))
            setattr(self, f"b{name}", nn.Sequential(*(Block(*ends, size) for ends in pairwise(channels))))
        self.b_out[-1].normed = False
        self.down1, self.down2 = nn.Conv2d(10, 10, 4, 2, 1), nn.Conv2d(20, 20, 4, 2, 1)
        self.down3 = nn.Sequential(nn.Conv2d(40, 40, 2, 1), nn.SiLU(), nn.Conv2d(40, 40, 4, 2, 1))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(40, 40, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(40, 40, 2, 1))
        self.up2, self.up3 = nn.ConvTranspose2d(20, 20, 4, 2, 1), nn.ConvTranspose2d(10, 10, 4, 2, 1)
        self.conv_out = nn.Conv2d(10, 1, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """The noise in ``x`` ``(B, 1, 28, 28)`` at the step ``(B,)``."""
        time = self.time_embed(step)

        def level(name: str, *parts: Tensor) -> Tensor:
            told = getattr(self, f"te{name}")(time)[..., None, None]
            out: Tensor = getattr(self, f"b{name}")(torch.cat(parts, dim=1) + told)
            return out

        first = level("1", x)
        second = level("2", self.down1(first))
        third = level("3", self.down2(second))
        middle = level("_mid", self.down3(third))
        fourth = level("4", third, self.up1(middle))
        fifth = level("5", second, self.up2(fourth))
        noise: Tensor = self.conv_out(level("_out", first, self.up3(fifth)))
        return noise


class Ddpm(nn.Module):
    """The net of ``brianpulfer_ddpm``."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.timesteps = Timesteps(alphas_cumprod(linear_betas(STEPS)))

    def forward(self, x: Tensor, *, sigma: Tensor, **cond: Tensor) -> Tensor:
        """``y + sigma * n`` to the estimate of ``y``, ``(B, 1, 28, 28)``, clipped to [-1, 1] as in its sampling."""
        noise = self.network(x * spread(scale_in("epsilon", sigma), x), self.timesteps.timestep(sigma).round().long())
        return to_denoised("epsilon", noise, x, sigma).clamp(-1, 1)


@register("net")
def brianpulfer_ddpm(channels: int = 1) -> Ddpm:
    """A DDPM of 28x28 by Brian Pulfer, whose files hold keys that begin with ``network.``."""
    return Ddpm()
