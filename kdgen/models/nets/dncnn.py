"""DnCNN: a chain of convolutions that predicts the noise (Zhang et al. 2017, "Beyond a Gaussian Denoiser")."""

from kdgen.models.nets.chain import ConvChain, Depth, Norm, Predicts
from kdgen.models.scaling import Family, fit_channels, scale_widths, scaled
from kdgen.registry import Spec, register
from kdgen.types.arguments import Count


class DnCNN(ConvChain):
    """The net of ``dncnn``."""

    def __init__(self, channels: int, *, depth: int, width: int, norm: Norm, bias: bool, predicts: Predicts) -> None:
        use = Spec(name="dncnn", args={"channels": channels, "depth": depth, "width": width, "norm": norm,
                                      "bias": bias, "predicts": predicts})  # fmt: skip
        super().__init__(channels, channels, depth=depth, width=width, norm=norm, bias=bias, predicts=predicts, use=use)


@register("net")
@scaled(Family(scale=scale_widths("width"), fit=fit_channels))
def dncnn(
    channels: Count = 1,
    depth: Depth = 17,
    width: Count = 64,
    norm: Norm = False,
    bias: bool = True,
    predicts: Predicts = "residual",
) -> DnCNN:
    """A chain of 3x3 convolutions at full resolution that predicts the noise (Zhang et al. 2017).

    Args:
        channels: channels C of its images.
        depth: number of convolutions.
        width: channels between them.
        norm: batch norm after all convolutions but the first and last; "folded" for such a net after folding.
        bias: whether the convolutions have a bias.
        predicts: "residual" subtracts what the convolutions give from the input; "image" gives it as it is.
    """
    return DnCNN(channels, depth=depth, width=width, norm=norm, bias=bias, predicts=predicts)
