"""A convolutional generator: latents to images."""

import math
from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from kdgen.models.nets.inputs import with_class
from kdgen.models.scaling import Args, Family, Shapes, scale_widths, scaled
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import Channels, Count, CountOrZero
from kdgen.utils.conditions import check_conditions

SMALLEST = 4
"""Height and width of the first feature map."""


class ConvGenerator(nn.Module):
    """The net of ``conv_generator``: DCGAN (Radford et al. 2016, arXiv 1511.06434) with upsampling for its strides.

    Nearest upsampling and a convolution draw no checkerboard as transposed ones do (Odena et al. 2016).
    """

    def __init__(self, latent: int, channels: int, size: int, width: int, num_classes: int) -> None:
        super().__init__()
        doublings = (size // SMALLEST).bit_length() - 1
        fits = doublings >= 1 and size == SMALLEST << doublings
        if not fits:
            raise UserError(text("generator_size", "conv_generator takes a size of 8, 16, 32, 64..., not {size}",
                                 size=size))  # fmt: skip
        self.latent, self.channels, self.size, self.width = latent, channels, size, width
        self.num_classes = num_classes
        self.conditions = frozenset({"label"} if num_classes else ())
        widths = [max(4 * width >> i, 4) for i in range(doublings + 1)]
        self.stem = nn.Linear(latent + num_classes, widths[0] * SMALLEST**2, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    up=nn.Upsample(scale_factor=2),
                    conv=nn.Conv2d(wide, slim, 3, padding=1, bias=False),
                    norm=nn.BatchNorm2d(slim),
                    relu=nn.ReLU(),
                )
            )
            for wide, slim in pairwise(widths)
        )
        self.tail = nn.Conv2d(widths[-1], channels, 3, padding=1)
        nn.init.kaiming_normal_(self.tail.weight, nonlinearity="tanh")

    def forward(self, x: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Draw.

        Args:
            x: standard normal latents, ``(B, Z)`` or ``(B, Z, 1, 1)``.
            label: classes ``(B,)``, read by a class-conditional net.

        Returns:
            images ``(B, C, size, size)`` in [-1, 1].

        Raises:
            UserError: for a class-conditional net without ``label``.
        """
        check_conditions(self, label=label)
        z = with_class(x.flatten(1), label, self.num_classes)
        h = torch.relu(self.norm(self.stem(z).view(x.shape[0], -1, SMALLEST, SMALLEST)))
        for stage in self.stages:
            h = stage(h)
        return torch.tanh(self.tail(h))

    def feature_layers(self) -> list[str]:
        """The stages, one for each resolution."""
        return [f"stages.{i}" for i in range(len(self.stages))]


def fit_latents(shapes: Shapes) -> Args:
    """Arguments of a generator that the shapes settle."""
    sizes = {"latent": math.prod(shapes.inputs), "channels": shapes.outputs[0], "size": shapes.outputs[-1]}
    return sizes | shapes.classes("num_classes")


@register("net")
@scaled(Family(scale=scale_widths("width"), fit=fit_latents, does={"draws": "latents"}))
def conv_generator(
    latent: Count = 64, channels: Channels = 1, size: Count = 32, width: Count = 48, num_classes: CountOrZero = 0
) -> ConvGenerator:
    """A convolutional generator, the architecture of the bundled GAN.

    By default 32 million multiply-accumulates for an image of 32x32; with width 16 a ninth of that.

    Args:
        latent: size Z of its latents.
        channels: channels C of its images.
        size: their height and width: 8, 16, 32, 64 and so on.
        width: channels of the feature map of 16x16; the one of 4x4 has four times as many, each next one half.
        num_classes: of a class-conditional net, which is told the ``label`` of each latent; 0 for none.
    """
    return ConvGenerator(latent, channels, size, width, num_classes)
