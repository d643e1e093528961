"""How unlike two images look: differences of a net's features. Metrics, and losses with gradients to the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.model import load
from kdgen.types import Net, UserError, text

SMALLEST = 21
"""Fewest pixels a side that the layers of the shift-tolerant net leave anything of."""


class Perceptual(nn.Module):
    """A distance of images by their features: Zhang et al. 2018 (arXiv 1801.03924), eq. 1.

    Features are normalised to unit length over channels at each place; their squared differences are weighted over
    channels, then averaged over space. The weights are frozen, and it stays in evaluation mode.

    Attributes:
        name: what its figures are called.
    """

    name: str

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """Feature maps, each ``(B, C_i, H_i, W_i)``, of images ``(B, 3, H, W)`` in [-1, 1]."""
        raise NotImplementedError

    def combine(self, differences: Sequence[Tensor]) -> Tensor:
        """One distance ``(B,)`` from the squared differences in each map; linear in them."""
        raise NotImplementedError

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of images.

        Args:
            a: ``(B, C, H, W)`` in [-1, 1], C 1 or 3; grey ones are repeated to three channels.
            b: the same.

        Returns:
            ``(B,)`` float32, 0 for equal images.
        """
        pairs = zip(self.unit_maps(a), self.unit_maps(b), strict=True)
        return self.combine([(first - second).square() for first, second in pairs])

    def unit_maps(self, x: Tensor) -> list[Tensor]:
        """The maps of images ``(B, C, H, W)``, C 1 or 3, normalised to unit length over channels, float32."""
        return [F.normalize(each.float(), dim=1, eps=1e-10) for each in self.maps(x.expand(-1, 3, -1, -1))]

    def train(self, mode: bool = True) -> Self:
        """Nothing: it stays in evaluation mode."""
        return super().train(False)


class FeatureDistance(Perceptual):
    """Perceptual distance without learned weights: the sum over channels, the mean over the maps of a net.

    Args:
        name: what its figures are called.
        net: ``net.maps(x)`` gives feature maps; it is frozen.
    """

    def __init__(self, name: str, net: Net) -> None:
        super().__init__()
        self.name = name
        self.net = net.requires_grad_(False)
        self.train()

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The net's own."""
        net: Any = self.net
        maps: Sequence[Tensor] = net.maps(x)
        return maps

    def combine(self, differences: Sequence[Tensor]) -> Tensor:
        """The mean over the maps, each of them weighing the same."""
        return torch.stack([each.sum(1).mean((1, 2)) for each in differences]).mean(0)


class ShiftTolerantLpips(Perceptual):
    """Shift-tolerant LPIPS, Ghildyal & Liu 2022 (arXiv 2207.13686), on AlexNet.

    Every stride is a blur before subsampling (Zhang 2019, arXiv 1904.11486), so that a shift of a pixel or two, which
    nobody sees, changes little.
    """

    name = "st_lpips"

    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, kernel, padding=margin) for i, o, kernel, margin in sizes)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for _, width, _, _ in sizes)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.requires_grad_(False).train()

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        """The five stages of AlexNet after their ReLU.

        Raises:
            UserError: for images too small for its layers.
        """
        if min(x.shape[-2:]) < SMALLEST:
            raise UserError(text("lpips_small", "shift-tolerant LPIPS takes images of {least} pixels a side and "
                                 "more, not {height}x{width}: use features32", least=SMALLEST, height=x.shape[-2],
                                 width=x.shape[-1]))  # fmt: skip
        x = (x - self.get_buffer("shift")) / self.get_buffer("scale")
        stages = [F.relu(_halved(self.convs[0](x)))]
        for i, conv in enumerate(self.convs[1:]):
            before = _halved(F.max_pool2d(stages[-1], 3, 1)) if i < 2 else stages[-1]
            stages.append(F.relu(conv(before)))
        return stages

    def combine(self, differences: Sequence[Tensor]) -> Tensor:
        """The sum over the stages, their channels weighted as learned."""
        each = [head(gap).mean((1, 2, 3)) for head, gap in zip(self.heads, differences, strict=True)]
        return torch.stack(each).sum(0)


def perceptual(name_or_path: str | Path = "features32") -> Perceptual:
    """A perceptual distance, on the CPU.

    Args:
        name_or_path: ``features32``, the small net that ships with kdgen, or the file of weights
            ``alex_shift_tolerant.pth`` that the authors of shift-tolerant LPIPS publish.

    Raises:
        UserError: if there is no such file, or it holds something else.
    """
    if str(name_or_path) == "features32":
        return FeatureDistance("perceptual_features32", load("features32").net)
    path = Path(name_or_path)
    if not path.is_file():
        raise UserError(text("no_perceptual", "no perceptual distance {name!r}: name features32, or the path of "
                             "alex_shift_tolerant.pth", name=str(name_or_path)))  # fmt: skip
    distance = ShiftTolerantLpips()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        distance.load_state_dict({own: stored[other] for own, other in _published().items()})
    except Exception as error:  # damage can surface as any error
        raise UserError(text("lpips_weights", "{path} does not hold the weights of shift-tolerant LPIPS on AlexNet "
                             "({type}): fetch alex_shift_tolerant.pth again", path=path,
                             type=type(error).__name__)) from None  # fmt: skip
    return distance


def _published() -> dict[str, str]:
    """What each weight is called in the file that the authors publish."""
    convs = [f"net.slice{stage}.{layer}" for stage, layer in enumerate((0, 5, 9, 11, 13), start=1)]
    return {
        "shift": "scaling_layer.shift",
        "scale": "scaling_layer.scale",
        **{f"convs.{i}.{part}": f"{conv}.{part}" for i, conv in enumerate(convs) for part in ("weight", "bias")},
        **{f"heads.{i}.weight": f"lin{i}.model.1.weight" for i in range(len(convs))},
    }


def _halved(x: Tensor) -> Tensor:
    """Blurred by a binomial 3x3 filter, then every second place."""
    line = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    blur = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), blur, stride=2, groups=x.shape[1])
