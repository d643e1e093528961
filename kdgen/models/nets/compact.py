"""The compact upscaler of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), which most programs that upscale open."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.chain import initialise
from kdgen.models.scaling import Family, fit_enlarging, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count, CountOrZero


class SRVGGNetCompact(nn.Module):
    """The net of ``compact``; its keys are those of the published checkpoints, ``body.0.weight`` and so on."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, width: int, depth: int, scale: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels * scale**2, 3, padding=1))
        self.scale = scale
        initialise(self.body)
        if width > channels:
            self._begin(channels)

    @torch.no_grad()
    def _begin(self, channels: int) -> None:
        """Begin as little more than bilinear enlargement, of the image that the first features carry through.

        Of enlargement by repeating pixels, as by random weights, squares stay to be seen for thousands of steps (Aitken
        et al. 2017, "Checkerboard artifact free sub-pixel convolution", section 3).
        """
        *carrying, last = (layer for layer in self.body if isinstance(layer, nn.Conv2d))
        for layer in carrying:
            assert layer.bias is not None
            layer.weight[:channels] = 0
            layer.bias[:channels] = 0
            for i in range(channels):
                layer.weight[i, i, 1, 1] = 1
        last.weight.mul_(0.1)
        last.weight[:, :channels] = 0
        kernels = bilinear(self.scale)
        kernels[:, 1, 1] -= 1  # which forward adds
        for i, rows in enumerate(last.weight.chunk(channels)):
            rows[:, i] = kernels

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)``; within, values lie in [0, 1]."""
        light = (x + 1) / 2
        out = F.pixel_shuffle(self.body(light), self.scale)
        return 2 * (out + F.interpolate(light, scale_factor=self.scale, mode="nearest")) - 1

    def feature_layers(self) -> list[str]:
        """The activations."""
        return [f"body.{name}" for name, layer in self.body.named_children() if isinstance(layer, nn.PReLU)]


def bilinear(scale: int) -> Tensor:
    """Kernels ``(scale ** 2, 3, 3)`` that make the pixels of one place of an image so many times higher and wider."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5
    line = torch.stack([(-offset).clamp_min(0), 1 - offset.abs(), offset.clamp_min(0)], dim=1)
    return torch.einsum("ya,xb->yxab", line, line).flatten(0, 1)


@register("net")
@scaled(Family(scale=scale_widths("width", "depth"), fit=fit_enlarging, does={"scales": True}))
def compact(channels: Channels = 3, width: Count = 24, depth: CountOrZero = 8, scale: Count = 4) -> SRVGGNetCompact:
    """3x3 convolutions at low resolution that give the difference to the image enlarged by repeating pixels.

    Args:
        channels: channels C of its images.
        width: channels between convolutions.
        depth: number of convolutions beside the first and the last.
        scale: how many times higher and wider images become; 1 restores images as they are.
    """
    return SRVGGNetCompact(channels, width, depth, scale)
