"""AutoencoderTiny of diffusers as a net: image to latents, latents to image, and both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, changed, fit_channels, scaled, scaled_width
from kdgen.registry import register


@register("adapter", handle="AutoencoderTiny")
class AutoencoderTiny(Autoencoder):
    """A tiny autoencoder in the manner of TAESD: folders of diffusers' AutoencoderTiny.

    Its submodule ``latents`` passes on what the encoder says, for hooks to read.
    """

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


def _scale(args: Args, scale: float) -> Iterator[Args]:
    if args.get("config") is None:
        yield {**args, "width": scaled_width(args["width"], scale)}
    else:
        keys = ("encoder_block_out_channels", "decoder_block_out_channels")
        yield changed(args, {key: scaled_width(args["config"][key], scale) for key in keys})


@register("net")
@scaled(Family(scale=_scale, fit=fit_channels))
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
