"""A U-Net of the DDPM tutorial by Brian Pulfer (github.com/BrianPulfer/PapersReimplementations), made kdgen's.

It predicts the noise of 28x28 grey images at one of 1,000 timesteps. Here it is told ``sigma`` and gives the denoised
image. Its layer norms hide the mean of its input, so that samples drift to grey: most of a digit is background, so the
denoised image is shifted to a median of -1, black, and clipped to [-1, 1].
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from kdgen import register
from kdgen.diffusion import Timesteps, alphas_cumprod, linear_betas, scale_in, to_denoised

SIDE, TIME = 28, 100


class Block(nn.Module):
    """Two convolutions behind a norm over channels and places."""

    def __init__(self, side: int, before: int, after: int, normalized: bool = True) -> None:
        super().__init__()
        self.ln = nn.LayerNorm((before, side, side))
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.normalized = normalized

    def forward(self, x: Tensor) -> Tensor:
        """``(B, before, side, side)`` to ``(B, after, side, side)``."""
        h = self.ln(x) if self.normalized else x
        return nn.functional.silu(self.conv2(nn.functional.silu(self.conv1(h))))


def blocks(side: int, *widths: int, last_normalized: bool = True) -> nn.Sequential:
    """A block from each width to the next."""
    pairs = list(pairwise(widths))
    made = [Block(side, *pair, normalized=last_normalized or pair is not pairs[-1]) for pair in pairs]
    return nn.Sequential(*made)


def told(width: int) -> nn.Sequential:
    """The embedding of the timestep to a number a channel."""
    return nn.Sequential(nn.Linear(TIME, width), nn.SiLU(), nn.Linear(width, width))


@register("net")
class DdpmUnet(nn.Module):
    """Noisy images ``(B, 1, 28, 28)`` and their ``sigma`` ``(B,)`` to denoised images in [-1, 1].

    Args:
        width: channels at 28x28; twice and four times as many at 14x14 and 7x7.
        channels: of its images: 1.
    """

    def __init__(self, width: int = 10, channels: int = 1) -> None:
        super().__init__()
        a, b, c = width, 2 * width, 4 * width
        self.time_embed = nn.Embedding(1000, TIME)
        self.te1, self.te2, self.te3, self.te_mid = told(1), told(a), told(b), told(c)
        self.te4, self.te5, self.te_out = told(2 * c), told(2 * b), told(2 * a)
        self.b1, self.b2, self.b3 = blocks(SIDE, 1, a, a, a), blocks(14, a, b, b, b), blocks(7, b, c, c, c)
        self.b_mid, self.b4 = blocks(3, c, b, b, c), blocks(7, 2 * c, c, b, b)
        self.b5, self.b_out = blocks(14, 2 * b, b, a, a), blocks(SIDE, 2 * a, a, a, a, last_normalized=False)
        self.down1, self.down2 = nn.Conv2d(a, a, 4, 2, 1), nn.Conv2d(b, b, 4, 2, 1)
        self.down3 = nn.Sequential(nn.Conv2d(c, c, 2), nn.SiLU(), nn.Conv2d(c, c, 4, 2, 1))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(c, c, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(c, c, 2))
        self.up2, self.up3 = nn.ConvTranspose2d(b, b, 4, 2, 1), nn.ConvTranspose2d(a, a, 4, 2, 1)
        self.conv_out = nn.Conv2d(a, 1, 3, padding=1)
        self.timesteps = Timesteps(alphas_cumprod(linear_betas()))

    def forward(self, x: Tensor, *, sigma: Tensor) -> Tensor:
        """The denoised image, ``(B, 1, 28, 28)``, of ``x = y + sigma * n``."""
        scaled = x * scale_in("epsilon", sigma).view(-1, 1, 1, 1)
        noise = self.noise(scaled, self.timesteps.timestep(sigma).round().long())
        image = to_denoised("epsilon", noise, x, sigma)
        background = image.flatten(1).median(1).values.view(-1, 1, 1, 1)
        return (image - background - 1).clamp(-1, 1)

    def noise(self, x: Tensor, timestep: Tensor) -> Tensor:
        """The noise in ``x`` ``(B, 1, 28, 28)`` of variance 1 at its ``timestep`` ``(B,)``, 0 to 999."""
        t = self.time_embed(timestep)

        def at(embedding: nn.Module) -> Tensor:
            shift: Tensor = embedding(t)
            return shift[:, :, None, None]

        one = self.b1(x + at(self.te1))
        two = self.b2(self.down1(one) + at(self.te2))
        three = self.b3(self.down2(two) + at(self.te3))
        deep = self.b_mid(self.down3(three) + at(self.te_mid))
        four = self.b4(torch.cat([three, self.up1(deep)], 1) + at(self.te4))
        five = self.b5(torch.cat([two, self.up2(four)], 1) + at(self.te5))
        out: Tensor = self.conv_out(self.b_out(torch.cat([one, self.up3(five)], 1) + at(self.te_out)))
        return out
