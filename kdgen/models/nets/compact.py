"""The compact upscaler of Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), which most programs that upscale open."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.chain import initialise
from kdgen.models.scaling import Family, fit_enlarging, scale_widths, scaled
from kdgen.registry import register
from kdgen.types import UserError, text
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
        *carrying, last = self.convs
        for layer in carrying:
            layer.get_parameter("bias")[:channels] = 0
            layer.weight[:channels] = 0
            nn.init.dirac_(layer.weight[:channels, :channels])
        last.weight.mul_(0.1)
        last.weight[:, :channels] = 0
        kernels = bilinear(self.scale)
        kernels[:, 1, 1] -= 1  # which forward adds
        for i, rows in enumerate(last.weight.chunk(channels)):
            rows[:, i] = kernels

    @torch.no_grad()
    def inherit(self, teacher: nn.Module) -> None:
        """Become a net of this kind that is no larger: Net2Net (Chen et al. 2016, arXiv 1511.05641, section 2).

        Further layers pass its features on as they are, and further features count for nothing yet.

        Raises:
            UserError: for a teacher of another kind, scale or channels, and for one wider or deeper.
        """
        if not isinstance(teacher, SRVGGNetCompact) or not teacher.within(self):
            raise UserError(text("compact_not_within", "a compact starts from one of the same scale and channels that "
                                 "is no wider and no deeper"))  # fmt: skip
        (*convs, last), acts = self.convs, self.acts
        (*sources, end), slopes = teacher.convs, teacher.acts
        width = end.in_channels
        for i, (conv, act) in enumerate(zip(convs, acts, strict=True)):
            weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
            weight[:width] = 0
            if i < len(sources):
                weight[:width, : sources[i].in_channels] = sources[i].weight
                bias[:width], act.weight[:width] = sources[i].get_parameter("bias"), slopes[i].weight
            else:
                nn.init.dirac_(weight[:width, :width])
                bias[:width], act.weight[:width] = 0, 1
        last.weight[:, :width], last.weight[:, width:] = end.weight, 0
        last.get_parameter("bias").copy_(end.get_parameter("bias"))

    def within(self, other: "SRVGGNetCompact") -> bool:
        """Whether it maps the same images and is neither wider nor deeper than another."""
        (first, *_, last), (its_first, *_, its_last) = self.convs, other.convs
        ends = (first.in_channels, last.out_channels) == (its_first.in_channels, its_last.out_channels)
        return ends and last.in_channels <= its_last.in_channels and len(self.body) <= len(other.body)

    @property
    def convs(self) -> list[nn.Conv2d]:
        """From the first to the last."""
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    @property
    def acts(self) -> list[nn.PReLU]:
        """What follows each of them but the last."""
        return [layer for layer in self.body if isinstance(layer, nn.PReLU)]

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
