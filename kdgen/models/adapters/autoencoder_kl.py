"""AutoencoderKL of diffusers as a net: image to latents, latents to image, and both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf, HalfName, fit_half, halved
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, Shapes, changed, scaled, scaled_width
from kdgen.registry import register


@register("adapter", handle="AutoencoderKL")
class AutoencoderKl(Autoencoder):
    """A variational autoencoder: folders of diffusers' AutoencoderKL.

    Its submodules ``moments`` and ``latents`` pass on what the encoder says and the means of it, for hooks to read.
    """

    encoding = "vae.encode(x).latent_dist.mean"

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        self.moments = nn.Identity()

    def raw(self, x: Tensor) -> Tensor:
        """Images to moments ``(B, 2Z, h, w)`` as diffusers' encoder gives them."""
        moments: Tensor = self.vae.encode(x).latent_dist.parameters
        return moments

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to moments ``(B, 2Z, h, w)``: means, then logarithms of variances."""
        means, log_variances = self.raw(x).chunk(2, dim=1)
        mean, deviation = self.statistics(means)
        moments = torch.cat([(means - mean) / deviation, log_variances - 2 * deviation.log()], dim=1)
        parameters: Tensor = self.moments(moments)
        self.latents(parameters.chunk(2, dim=1)[0])
        return parameters

    def forward(self, x: Tensor) -> Tensor:
        """Images to images: a sample of the latents is decoded in training, their mean in evaluation.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1]; height and width are multiples of the encoder's reduction.
        """
        mean, log_variance = self.encode(x).chunk(2, dim=1)
        if self.training:
            mean = mean + (log_variance.clamp(-30, 20) / 2).exp() * torch.randn(
                mean.shape, dtype=mean.dtype, device=mean.device
            )
        return self.decode(mean)

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger one of its class; what that does without passes latents on as they are.

        Raises:
            UserError: as ``inherit_blocks`` does.
        """
        super().inherit(teacher)
        theirs = self.same_class(teacher).vae
        for own, other in (
            (self.vae.quant_conv, theirs.quant_conv),
            (self.vae.post_quant_conv, theirs.post_quant_conv),
        ):
            if isinstance(own, nn.Conv2d) and other is None:
                nn.init.dirac_(own.weight)
                nn.init.zeros_(own.get_parameter("bias"))

    def feature_layers(self) -> list[str]:
        """The blocks of the encoder, the moments, their means, and the blocks of the decoder, in order of use."""
        down, up = len(self.vae.encoder.down_blocks), len(self.vae.decoder.up_blocks)
        inward = [*(f"vae.encoder.down_blocks.{i}" for i in range(down)), "vae.encoder.mid_block", "moments", "latents"]
        return [*inward, "vae.decoder.mid_block", *(f"vae.decoder.up_blocks.{i}" for i in range(up))]


def scale_blocks(args: Args, scale: float) -> Iterator[Args]:
    """Arguments of narrower or wider levels."""
    config = args if args.get("config") is None else args["config"]
    groups, keys = config.get("norm_num_groups", 32), ("block_out_channels", "decoder_block_out_channels")
    yield changed(args, {key: scaled_width(config[key], scale, groups) for key in keys if config.get(key)})


def fit_blocks(shapes: Shapes) -> Args:
    """What shapes settle of a net that also notes the size of its images."""
    fitted = fit_half(shapes)
    return {**fitted, "size": (shapes.outputs if fitted.get("half") == "decoder" else shapes.inputs)[-1]}


def kl_config(
    channels: int, size: int, latent_channels: int, widths: Sequence[int], layers: int, attention: bool, groups: int
) -> dict[str, Any]:
    """The configuration of an AutoencoderKL, as the function below takes its parts."""
    return {
        "in_channels": channels,
        "out_channels": channels,
        "sample_size": size,
        "latent_channels": latent_channels,
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "mid_block_add_attention": attention,
        "norm_num_groups": groups,
    }


@register("net")
@scaled(Family(scale=scale_blocks, fit=fit_blocks))
def autoencoder_kl(
    channels: int = 1,
    size: int = 32,
    latent_channels: int = 4,
    block_out_channels: Sequence[int] = (16, 32, 32),
    layers_per_block: int = 1,
    mid_block_attention: bool = True,
    norm_num_groups: int = 8,
    half: HalfName | None = None,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderKl | AutoencoderHalf:
    """A variational autoencoder, diffusers' AutoencoderKL, written as a model that plain diffusers opens.

    Args:
        channels: channels C of its images.
        size: height and width in pixels that it notes for users; it takes others too.
        latent_channels: channels Z of its latents.
        block_out_channels: channels at full, half, quarter... resolution; latents are as small as the last.
        layers_per_block: residual layers of a block of the encoder; the decoder has one more.
        mid_block_attention: whether the coarsest level has attention.
        norm_num_groups: groups of its normalisation; divides all channels.
        half: the encoder or the decoder alone; the task says which, where it is of one.
        config: a whole configuration of an AutoencoderKL, which counts in place of all arguments above but ``half``.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = kl_config(channels, size, latent_channels, block_out_channels, layers_per_block, mid_block_attention,
                    norm_num_groups)  # fmt: skip
    made = construct("AutoencoderKL", {**own, "scaling_factor": 1.0} if config is None else config)
    return halved(AutoencoderKl(made), half)
