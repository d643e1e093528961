"""The small student: residual 3x3 convolutions at half resolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.inputs import level_map, pad_to_multiple
from kdgen.models.scaling import Args, Family, Shapes, fit_channels, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Count, CountOrZero
from kdgen.utils.conditions import check_conditions

AS_LARGE = {"reads": "images", "gives": "images", "draws": None, "half": None, "scales": False}
"""Tasks that change images and leave them as large as they are."""


class HalfRes(nn.Module):
    """The net of ``half_res``: 2x2 pixels become channels, pass the blocks, and become what is subtracted."""

    def __init__(self, channels: int, width: int, blocks: int, sigma_map: bool) -> None:
        super().__init__()
        self.channels, self.sigma_map = channels, sigma_map
        self.conditions = frozenset({"sigma"} if sigma_map else ())
        self.head = nn.Conv2d(4 * channels + sigma_map, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(width, 4 * channels, 3, padding=1)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """He et al. 2015, eq. 10, with zero biases and a small tail, so that little is subtracted at first."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.tail.weight.mul_(0.02)

    def forward(self, x: Tensor, *, sigma: Tensor | None = None) -> Tensor:
        """Denoise.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1], any size; a net of three channels takes grey images ``(B, 1, H, W)`` too.
            sigma: the noise level ``(B,)`` in units of the image range, read by a net with a noise-level map.

        Returns:
            an image as large as ``x``.
        """
        check_conditions(self, sigma=sigma)
        height, width = x.shape[-2:]
        h = F.pixel_unshuffle(pad_to_multiple(x, 2).expand(-1, self.channels, -1, -1), 2)
        if self.sigma_map:
            h = torch.cat([level_map(sigma, h), h], dim=1)
        h = F.relu(self.head(h))
        for block in self.body:
            h = h + block(h)
        out = F.pixel_shuffle(self.tail(h), 2)[..., :height, :width]
        return x - (out if x.shape[1] == self.channels else out.mean(1, keepdim=True))

    def feature_layers(self) -> list[str]:
        """The head and the branches of the residual blocks."""
        return ["head", *(f"body.{i}" for i in range(len(self.body)))]


def _fit_sigma(shapes: Shapes) -> Args:
    return {"sigma_map": "sigma" in shapes.conditions}


@register("net")
@scaled(Family(scale=scale_widths("width", "blocks"), fit=fit_channels, fresh=_fit_sigma, does=AS_LARGE))
def half_res(channels: Count = 1, width: Count = 32, blocks: CountOrZero = 3, sigma_map: bool = False) -> HalfRes:
    """The small student: residual blocks on images whose 2x2 pixels became channels, cheap and quick to train.

    FFDNet's stem (Zhang et al. 2018) with a residual body. By default 57,828 parameters and 0.94 billion
    multiply-accumulates for a grey image of 256x256.

    Args:
        channels: channels C of its images.
        width: channels between the convolutions.
        blocks: residual blocks of two convolutions each.
        sigma_map: whether it is told the noise level.
    """
    return HalfRes(channels, width, blocks, sigma_map)
