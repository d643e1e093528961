"""AutoencoderKL and AutoencoderTiny of diffusers as nets: image to latents, latents to image, and both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.pretrained import construct, portable, read_json, read_weights, write
from kdgen.models.task_arguments import task_having
from kdgen.registry import register
from kdgen.types import UserError

SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""What pipelines read of a model's configuration to scale latents before they decode them."""


class Autoencoder(nn.Module):
    """What the two have in common.

    Attributes:
        vae: diffusers' model, whose images are in [-1, 1] as kdgen's are.
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
    """

    conditions: frozenset[str] = frozenset()
    halves: ClassVar = {
        "encoder": ("vae.encoder", "vae.quant_conv", "moments", "latents"),
        "decoder": ("vae.decoder", "vae.post_quant_conv"),
    }

    def __init__(self, vae: Any) -> None:
        super().__init__()
        given, read = vae.config.out_channels, vae.config.in_channels
        if given != read or read not in (1, 3):
            raise UserError(f"an autoencoder reads and gives images of 1 or 3 channels; this one reads {read} and "
                            f"gives {given}, which is not handled")  # fmt: skip
        self.vae = vae
        self.channels: int = vae.config.in_channels
        self.latent_channels: int = vae.config.latent_channels

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)``, as the encoder gives them, to images ``(B, C, H, W)`` about [-1, 1]."""
        image: Tensor = self.vae.decode(z).sample
        return image

    def adopt(self, teacher: nn.Module) -> None:
        """Have pipelines scale latents as they do for a teacher, whose latents this net learns."""
        if isinstance(teacher, Autoencoder):
            self._scale_as(teacher.vae.config)

    def _scale_as(self, config: Mapping[str, Any]) -> None:
        self.vae.register_to_config(**{key: config[key] for key in SCALES if key in config})

    def save_files(self, folder: Path) -> None:
        """Write the model as diffusers does, into the subfolder ``vae``."""
        write(portable(self.vae), folder / "vae")

    def load_files(self, folder: Path) -> None:
        """Read the weights from the subfolder ``vae``, and how its latents are scaled.

        Raises UserError if they are damaged or do not fit.
        """
        read_weights(self.vae, folder / "vae")
        self._scale_as(read_json(folder / "vae" / "config.json"))

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        return {"name": task_having(half="whole"), "channels": self.channels}


class AutoencoderKl(Autoencoder):
    """The net of ``autoencoder_kl``.

    Its submodules ``moments`` and ``latents`` pass on what the encoder says and the means of it, for hooks to read.
    """

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
            raise UserError(f"an autoencoder_kl starts from another, not from a {type(teacher).__name__}")
        inherit_blocks(self.vae, teacher.vae)

    def feature_layers(self) -> list[str]:
        """The blocks of the encoder, the moments, their means, and the blocks of the decoder, in order of use."""
        down, up = len(self.vae.encoder.down_blocks), len(self.vae.decoder.up_blocks)
        inward = [*(f"vae.encoder.down_blocks.{i}" for i in range(down)), "vae.encoder.mid_block", "moments", "latents"]
        return [*inward, "vae.decoder.mid_block", *(f"vae.decoder.up_blocks.{i}" for i in range(up))]


class AutoencoderTiny(Autoencoder):
    """The net of ``autoencoder_tiny``. Its submodule ``latents`` passes on what the encoder says, for hooks to read."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        self.latents = nn.Identity()

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to latents ``(B, Z, h, w)``."""
        z: Tensor = self.latents(self.vae.encode(x).latents)
        return z

    def forward(self, x: Tensor) -> Tensor:
        """Images to images, without the rounding of latents to bytes that diffusers' own ``forward`` puts between.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1]; height and width are multiples of the encoder's reduction.
        """
        return self.decode(self.encode(x))

    def feature_layers(self) -> list[str]:
        """The layers of the encoder, the latents, and the layers of the decoder, the image left out."""
        inward, outward = len(self.vae.encoder.layers), len(self.vae.decoder.layers)
        encoder = [f"vae.encoder.layers.{i}" for i in range(inward - 1)]
        return [*encoder, "latents", *(f"vae.decoder.layers.{i}" for i in range(outward - 1))]


@register("net")
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


@register("net")
def autoencoder_tiny(
    channels: int = 3,
    latent_channels: int = 4,
    width: int = 32,
    encoder_blocks: Sequence[int] = (1, 1, 1),
    decoder_blocks: Sequence[int] = (1, 1, 1),
    config: Mapping[str, Any] | None = None,
) -> AutoencoderTiny:
    """A tiny autoencoder in the manner of TAESD, diffusers' AutoencoderTiny, which plain diffusers opens.

    Args:
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
        width: channels of all layers between.
        encoder_blocks: blocks at full, half, quarter... resolution; latents are as small as the last.
        decoder_blocks: blocks on the way back, the coarsest first.
        config: a whole configuration of an AutoencoderTiny, which counts in place of all other arguments.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = {
        "in_channels": channels,
        "out_channels": channels,
        "latent_channels": latent_channels,
        "encoder_block_out_channels": (width,) * len(encoder_blocks),
        "decoder_block_out_channels": (width,) * len(decoder_blocks),
        "num_encoder_blocks": tuple(encoder_blocks),
        "num_decoder_blocks": tuple(decoder_blocks),
    }
    return AutoencoderTiny(construct("AutoencoderTiny", own if config is None else config))
