"""A residual U-Net denoiser with a noise-level map (DRUNet: Zhang et al. 2021, "Plug-and-Play Restoration")."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kdgen.models.nets.inputs import filled, level_map, lit, pad_to_multiple
from kdgen.models.scaling import Family, fit_channels, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Count, Counts
from kdgen.utils.conditions import check_conditions


class Block(nn.Module):
    """``x + second(relu(first(x)))``, ``(B, width, H, W)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        out: Tensor = x + self.second(self.relu(self.first(x)))
        return out


class UNet(nn.Module):
    """The net of ``unet``: halved and widened from level to level, then back, with sums across each level.

    It has no biases, so that ``net(a * x, sigma=a * sigma) = a * net(x, sigma=sigma)`` for every positive ``a``
    (Mohan et al. 2020, "Robust and interpretable blind image denoising via bias-free CNNs"); except for the maps of
    what is there and of the light, which one that is told a mask or stops reads beside the image.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], blocks: int, blind: bool, mask: bool = False, stops: bool = False,
        first_guess: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.widths, self.blocks, self.blind = channels, tuple(widths), blocks, blind
        self.first_guess = first_guess
        told = {"sigma": not blind, "mask": mask, "stops": stops}
        self.conditions = frozenset(name for name, read in told.items() if read)
        steps = list(pairwise(widths))

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width) for _ in range(blocks)))

        self.head = nn.Conv2d(channels + len(self.conditions), widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(level(width) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(wide, deep, 2, 2, bias=False) for wide, deep in steps)
        self.middle = level(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, 2, bias=False) for wide, deep in steps)
        self.decoder = nn.ModuleList(level(width) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Every layer keeps the variance of its input, but residual branches and the tail start at a tenth of that."""
        for name, module in self.named_modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            elif isinstance(module, nn.Conv2d):
                gain = {"first": 2**0.5, "second": 0.1, "tail": 0.1}.get(name.rpartition(".")[2], 1.0)
                nn.init.normal_(module.weight, std=gain * module.weight[0].numel() ** -0.5)

    def forward(
        self, x: Tensor, *, sigma: Tensor | None = None, mask: Tensor | None = None, stops: Tensor | None = None
    ) -> Tensor:
        """Restore.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1], any size; a net of three channels takes grey images ``(B, 1, H, W)`` too.
            sigma: the noise level ``(B,)`` in units of the image range, read unless the net is blind.
            mask: ``(B, 1, H, W)``, 1 where pixels are missing and 0 elsewhere, by a net that reads it; nothing is
                missing where it is not given.
            stops: ``(B,)``, how many times the light was halved, by a net that reads it; not at all where not given.

        Returns:
            an image as large as ``x``.

        Raises:
            UserError: without ``sigma``, unless the net is blind.
        """
        check_conditions(self, sigma=sigma, mask=mask, stops=stops)
        height, width = x.shape[-2:]
        if self.first_guess:
            x = x if stops is None else lit(x, stops)
            x = x if mask is None else filled(x, mask)
        inner = pad_to_multiple(x, 2 ** len(self.down)).expand(-1, self.channels, -1, -1)
        told = [] if self.blind else [level_map(sigma, inner)]
        if "mask" in self.conditions:
            present = torch.ones_like(x[:, :1]) if mask is None else 1 - mask.to(x)
            told.append(pad_to_multiple(present, 2 ** len(self.down)))
        if "stops" in self.conditions:
            told.append(level_map(x.new_zeros(len(x)) if stops is None else stops, inner))
        h: Tensor = self.head(torch.cat([inner, *told], dim=1))
        first = h
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            h = blocks(h)
            skips.append(h)
            h = down(h)
        h = self.middle(h)
        for blocks, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            h = blocks(up(h) + skip)
        out: Tensor = self.tail(h + first)[..., :height, :width]
        return x - (out if x.shape[1] == self.channels else out.mean(1, keepdim=True))

    def feature_layers(self) -> list[str]:
        """The residual blocks, in order of use."""
        levels = [f"encoder.{i}" for i in range(len(self.encoder))] + ["middle"]
        levels += [f"decoder.{i}" for i in reversed(range(len(self.decoder)))]
        return [f"{level}.{i}" for level in levels for i in range(self.blocks)]


@register("net")
@scaled(Family(scale=scale_widths("widths", "blocks"), fit=fit_channels))
def unet(
    channels: Count = 3, widths: Counts = (32, 64, 128), blocks: Count = 2, blind: bool = False, mask: bool = False,
    stops: bool = False, first_guess: bool = False,
) -> UNet:  # fmt: skip
    """A residual U-Net told the noise level, the architecture of the bundled teacher (DRUNet, Zhang et al. 2021).

    Args:
        channels: channels C of its images; with 3 it also answers grey ones.
        widths: channels at full, half, quarter... resolution.
        blocks: residual blocks at each level, on the way down and on the way up.
        blind: whether it must do without the noise level.
        mask: whether it is told which pixels are missing.
        stops: whether it is told by how much an image is underexposed.
        first_guess: whether it is shown images with their light multiplied by what it is told, and their holes filled
            smoothly from around, and gives the difference to these.
    """
    return UNet(channels, widths, blocks, blind, mask, stops, first_guess)
