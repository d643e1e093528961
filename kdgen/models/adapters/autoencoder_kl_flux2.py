"""AutoencoderKLFlux2 of diffusers as a net."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf, HalfName, fit_half, halved
from kdgen.models.adapters.autoencoder_kl import AutoencoderKl, kl_config, scale_blocks
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Family, scaled
from kdgen.registry import register


@register("adapter", handle="AutoencoderKLFlux2")
class AutoencoderKlFlux2(AutoencoderKl):
    """The variational autoencoder of Flux 2: folders of diffusers' AutoencoderKLFlux2.

    Its pipelines lay squares of latents into channels, and scale these by the statistics of a batch norm. Here each
    latent is scaled by those of its place within the square, and stays in its place.
    """

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``(Z, h, w)``, which repeat from square to square."""
        height, width = like.shape[-2:]
        tall, wide = self.vae.config.patch_size
        norm = self.vae.bn
        both = torch.stack([norm.running_mean, (norm.running_var + self.vae.config.batch_norm_eps).sqrt()]).to(like)
        squares = both.view(2, self.latent_channels, tall, wide).repeat(1, 1, -(-height // tall), -(-width // wide))
        mean, deviation = squares[..., :height, :width]
        return mean, deviation

    @torch.no_grad()
    def scale_as(self, teacher: Autoencoder) -> None:
        """Take over the statistics of another."""
        self.vae.bn.load_state_dict(teacher.vae.bn.state_dict())
        self.vae.register_to_config(batch_norm_eps=teacher.vae.config.batch_norm_eps)


@register("net")
@scaled(Family(scale=scale_blocks, fit=fit_half))
def autoencoder_kl_flux2(
    channels: int = 3,
    latent_channels: int = 32,
    block_out_channels: Sequence[int] = (16, 32, 32, 32),
    decoder_block_out_channels: Sequence[int] | None = None,
    layers_per_block: int = 1,
    norm_num_groups: int = 8,
    half: HalfName | None = None,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderKlFlux2 | AutoencoderHalf:
    """The variational autoencoder of Flux 2, diffusers' AutoencoderKLFlux2, which plain diffusers opens.

    Args:
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
        block_out_channels: channels at full, half, quarter... resolution; latents are as small as the last.
        decoder_block_out_channels: those of the decoder, where they are others.
        layers_per_block: residual layers of a block of the encoder; the decoder has one more.
        norm_num_groups: groups of its normalisation; divides all channels.
        half: the encoder or the decoder alone; the task says which, where it is of one.
        config: a whole configuration of an AutoencoderKLFlux2, which counts in place of all others but ``half``.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = kl_config(channels, 1024, latent_channels, block_out_channels, layers_per_block, True, norm_num_groups)
    decoder = decoder_block_out_channels and tuple(decoder_block_out_channels)
    whole = {**own, "decoder_block_out_channels": decoder} if config is None else config
    return halved(AutoencoderKlFlux2(construct("AutoencoderKLFlux2", whole)), half)
