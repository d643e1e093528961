"""The compact upscaler of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), which most programs that upscale open."""

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

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)``; within, values lie in [0, 1]."""
        light = (x + 1) / 2
        out = F.pixel_shuffle(self.body(light), self.scale)
        return 2 * (out + F.interpolate(light, scale_factor=self.scale, mode="nearest")) - 1

    def feature_layers(self) -> list[str]:
        """The activations."""
        return [f"body.{name}" for name, layer in self.body.named_children() if isinstance(layer, nn.PReLU)]


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
