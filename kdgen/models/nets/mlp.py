"""Fully connected over overlapping patches (Burger et al. 2012, CVPR)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.chain import initialise
from kdgen.models.scaling import Family, fit_channels, scale_widths, scaled
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import Count


class PatchMLP(nn.Module):
    """The net of ``patch_mlp``.

    The layers are 1x1 convolutions over the grid of patches: the same maths as linear layers on each patch, with
    features that keep their place, ``(B, width, rows, columns)``.
    """

    window: Tensor
    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, patch: int, stride: int, width: int, depth: int) -> None:
        super().__init__()
        if stride > patch:
            raise UserError(text("patch_stride", "patch_mlp needs a stride of at most patch, not {stride} for {patch}",
                                 stride=stride, patch=patch))  # fmt: skip
        self.patch, self.stride = patch, stride
        sizes = [channels * patch**2, *[width] * depth, channels * patch**2]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        initialise(self.layers)
        bell = torch.signal.windows.gaussian(patch, std=patch / 4)
        self.register_buffer("window", torch.outer(bell, bell).view(1, 1, -1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` in [-1, 1] of any size to the same: the weighted mean of what all patches say of a pixel."""
        batch, channels, height, width = x.shape
        margin = self.patch - self.stride
        tall, wide = (margin + -(-n // self.stride) * self.stride + margin for n in (height, width))
        padded = F.pad(x, (margin, wide - width - margin, margin, tall - height - margin), mode="replicate")
        rows, columns = ((n - self.patch) // self.stride + 1 for n in (tall, wide))
        patches = F.unfold(padded, self.patch, stride=self.stride).view(batch, -1, rows, columns)
        noise: Tensor = self.layers(patches).to(x.dtype).view(batch, channels, -1, rows * columns)
        weight = self.window.to(x.dtype).expand(1, 1, -1, rows * columns)
        sums = F.fold((noise * weight).flatten(1, 2), (tall, wide), self.patch, stride=self.stride)
        weights = F.fold(weight.flatten(1, 2), (tall, wide), self.patch, stride=self.stride)
        inside = (..., slice(margin, margin + height), slice(margin, margin + width))
        return x - sums[inside] / weights[inside]

    def feature_layers(self) -> list[str]:
        """The ReLUs."""
        return [f"layers.{name}" for name, layer in self.layers.named_children() if isinstance(layer, nn.ReLU)]


@register("net")
@scaled(Family(scale=scale_widths("width"), fit=fit_channels))
def patch_mlp(
    channels: Count = 1, patch: Count = 8, stride: Count = 4, width: Count = 256, depth: Count = 2
) -> PatchMLP:
    """Fully connected over overlapping patches, whose answers are averaged (Burger et al. 2012).

    Args:
        channels: channels C of its images.
        patch: pixels of a patch's edge.
        stride: pixels from one patch to the next.
        width: units of a hidden layer.
        depth: number of hidden layers.
    """
    return PatchMLP(channels, patch, stride, width, depth)
