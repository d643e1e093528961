"""AutoencoderDC of diffusers, the deep compression autoencoder of Sana, as a net."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf, HalfName, fit_half, halved
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, changed, scaled, scaled_width
from kdgen.registry import register

WIDTHS = ("encoder_block_out_channels", "decoder_block_out_channels")


@register("adapter", handle="AutoencoderDC")
class AutoencoderDc(Autoencoder):
    """A deep compression autoencoder: folders of diffusers' AutoencoderDC.

    Its submodule ``latents`` passes on what the encoder says, for hooks to read.
    """

    named = ("in_channels", "latent_channels", WIDTHS[0])
    encoding = "vae.encode(x).latent"

    def raw(self, x: Tensor) -> Tensor:
        """Images to latents as diffusers' encoder gives them."""
        z: Tensor = self.vae.encode(x).latent
        return z

    def feature_layers(self) -> list[str]:
        """The levels of the encoder, the latents, and those of the decoder, in order of use."""
        down, up = len(self.vae.encoder.down_blocks), len(self.vae.decoder.up_blocks)
        inward = [f"vae.encoder.down_blocks.{i}" for i in range(down)]
        return [*inward, "latents", *(f"vae.decoder.up_blocks.{i}" for i in reversed(range(up)))]


def _scale(args: Args, scale: float) -> Iterator[Args]:
    if args.get("config") is None:
        yield {**args, "widths": scaled_width(args["widths"], scale, args["latent_channels"])}
    else:
        config = args["config"]
        yield changed(args, {key: scaled_width(config[key], scale, config["latent_channels"]) for key in WIDTHS})


@register("net")
@scaled(Family(scale=_scale, fit=fit_half))
def autoencoder_dc(
    channels: int = 3,
    latent_channels: int = 32,
    widths: Sequence[int] = (32, 32, 64, 64),
    blocks: int = 1,
    attention_levels: int = 1,
    head_dim: int = 8,
    half: HalfName | None = None,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderDc | AutoencoderHalf:
    """A deep compression autoencoder, diffusers' AutoencoderDC, which plain diffusers opens.

    Args:
        channels: channels C of its images.
        latent_channels: channels Z of its latents; divides the last of the widths.
        widths: channels at full, half, quarter... resolution; latents are as small as the last.
        blocks: at each of them.
        attention_levels: how many of the coarsest have linear attention in their blocks; others have residual ones.
        head_dim: channels of a head of it.
        half: the encoder or the decoder alone; the task says which, where it is of one.
        config: a whole configuration of an AutoencoderDC, which counts in place of all others but ``half``.

    Raises:
        UserError: for arguments that do not fit.
    """
    levels = len(widths)
    plain = levels - min(attention_levels, levels)
    own: dict[str, Any] = {
        "in_channels": channels,
        "latent_channels": latent_channels,
        "attention_head_dim": head_dim,
        "downsample_block_type": "conv",
        "upsample_block_type": "interpolate",
    }
    for part in ("encoder", "decoder"):
        own[f"{part}_block_types"] = ("ResBlock",) * plain + ("EfficientViTBlock",) * (levels - plain)
        own[f"{part}_block_out_channels"] = tuple(widths)
        own[f"{part}_layers_per_block"] = (blocks,) * levels
        own[f"{part}_qkv_multiscales"] = ((),) * plain + ((5,),) * (levels - plain)
    return halved(AutoencoderDc(construct("AutoencoderDC", own if config is None else config)), half)
