"""AutoencoderKL of diffusers as a net: image to latents, latents to image, and both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, changed, fit_images, scaled, scaled_width
from kdgen.registry import register
from kdgen.types import UserError, text


@register("adapter", handle="AutoencoderKL")
class AutoencoderKl(Autoencoder):
    """A variational autoencoder: folders of diffusers' AutoencoderKL.

    Its submodules ``moments`` and ``latents`` pass on what the encoder says and the means of it, for hooks to read.
    """

    encoded = "latent_dist.mean"

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        self.moments, self.latents = nn.Identity(), nn.Identity()

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to moments ``(B, 2Z, h, w)``: means, then logarithms of variances."""
        parameters: Tensor = self.moments(self.vae.encode(x).latent_dist.parameters)
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
        """Start from the weights of a larger ``AutoencoderKl``. Raises UserError as ``inherit_blocks`` does."""
        if not isinstance(teacher, AutoencoderKl):
            raise UserError(text("autoencoder_start", "an autoencoder_kl starts from another, not from a {type}",
                                 type=type(teacher).__name__))  # fmt: skip
        inherit_blocks(self.vae, teacher.vae)

    def feature_layers(self) -> list[str]:
        """The blocks of the encoder, the moments, their means, and the blocks of the decoder, in order of use."""
        down, up = len(self.vae.encoder.down_blocks), len(self.vae.decoder.up_blocks)
        inward = [*(f"vae.encoder.down_blocks.{i}" for i in range(down)), "vae.encoder.mid_block", "moments", "latents"]
        return [*inward, "vae.decoder.mid_block", *(f"vae.decoder.up_blocks.{i}" for i in range(up))]


def _scale(args: Args, scale: float) -> Iterator[Args]:
    config = args if args.get("config") is None else args["config"]
    widths = scaled_width(config["block_out_channels"], scale, config.get("norm_num_groups", 32))
    yield changed(args, {"block_out_channels": widths})


@register("net")
@scaled(Family(scale=_scale, fit=fit_images))
def autoencoder_kl(
    channels: int = 1,
    size: int = 32,
    latent_channels: int = 4,
    block_out_channels: Sequence[int] = (16, 32, 32),
    layers_per_block: int = 1,
    mid_block_attention: bool = True,
    norm_num_groups: int = 8,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderKl:
    """A variational autoencoder, diffusers' AutoencoderKL, written as a model that plain diffusers opens.

    Args:
        channels: channels C of its images.
        size: height and width in pixels that it notes for users; it takes others too.
        latent_channels: channels Z of its latents.
        block_out_channels: channels at full, half, quarter... resolution; latents are as small as the last.
        layers_per_block: residual layers of a block of the encoder; the decoder has one more.
        mid_block_attention: whether the coarsest level has attention.
        norm_num_groups: groups of its normalisation; divides all channels.
        config: a whole configuration of an AutoencoderKL, which counts in place of all other arguments.

    Raises:
        UserError: for arguments that do not fit.
    """
    levels = len(block_out_channels)
    own = {
        "in_channels": channels,
        "out_channels": channels,
        "sample_size": size,
        "latent_channels": latent_channels,
        "block_out_channels": tuple(block_out_channels),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": layers_per_block,
        "mid_block_add_attention": mid_block_attention,
        "norm_num_groups": norm_num_groups,
        "scaling_factor": 1.0,
    }
    return AutoencoderKl(construct("AutoencoderKL", own if config is None else config))
