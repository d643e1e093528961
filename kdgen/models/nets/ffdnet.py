"""FFDNet: DnCNN at half resolution, told the noise level (Zhang et al. 2018, "FFDNet", IEEE TIP)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.models.nets.chain import ConvChain, Depth, Norm, Predicts
from kdgen.models.nets.inputs import level_map, pad_to_multiple
from kdgen.models.scaling import Family, fit_channels, scale_widths, scaled
from kdgen.registry import Spec, register
from kdgen.types.arguments import Count


class FFDNet(ConvChain):
    """The net of ``ffdnet``."""

    num_maps = 1
    conditions = frozenset({"sigma"})

    def __init__(self, channels: int, *, depth: int, width: int, norm: Norm, bias: bool, predicts: Predicts) -> None:
        use = Spec(name="ffdnet", args={"channels": channels, "depth": depth, "width": width, "norm": norm,
                                       "bias": bias, "predicts": predicts})  # fmt: skip
        super().__init__(
            4 * channels + 1, 4 * channels, depth=depth, width=width, norm=norm, bias=bias, predicts=predicts, use=use
        )

    def forward(self, x: Tensor, *, sigma: Tensor | None = None) -> Tensor:
        """``(B, C, H, W)`` of any size, with noise of level ``sigma`` ``(B,)`` in the same units, to the same."""
        height, width = x.shape[-2:]
        half = F.pixel_unshuffle(pad_to_multiple(x, 2), 2)
        out = F.pixel_shuffle(self.chain(torch.cat([level_map(sigma, half), half], dim=1)), 2)[..., :height, :width]
        return x - out if self.predicts == "residual" else out


@register("net")
@scaled(Family(scale=scale_widths("width"), fit=fit_channels))
def ffdnet(
    channels: Count = 1,
    depth: Depth = 15,
    width: Count = 64,
    norm: Norm = False,
    bias: bool = True,
    predicts: Predicts = "residual",
) -> FFDNet:
    """A chain of 3x3 convolutions at half resolution with a map of the noise level (Zhang et al. 2018).

    Args:
        channels: channels C of its images.
        depth: number of convolutions.
        width: channels between them.
        norm: batch norm after all convolutions but the first and last; "folded" for such a net after folding.
        bias: whether the convolutions have a bias.
        predicts: "residual" subtracts what the convolutions give from the input; "image" gives it as it is.
    """
    return FFDNet(channels, depth=depth, width=width, norm=norm, bias=bias, predicts=predicts)
