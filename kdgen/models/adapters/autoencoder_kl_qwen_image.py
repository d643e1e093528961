"""AutoencoderKLQwenImage of diffusers as a net of single frames."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from kdgen.models.adapters.autoencoder_half import AutoencoderHalf, HalfName, fit_half, halved
from kdgen.models.adapters.autoencoder_kl import AutoencoderKl
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, changed, scaled, scaled_width
from kdgen.registry import register


@register("adapter", handle="AutoencoderKLQwenImage")
class AutoencoderKlQwenImage(AutoencoderKl):
    """The variational autoencoder of Qwen-Image on pictures: folders of diffusers' AutoencoderKLQwenImage.

    It is one of clips: a picture is a clip of one frame, of which its convolutions over time see nothing and learn
    nothing.
    """

    named = ("input_channels", "z_dim", "dim_mult")
    encoding = "vae.encode(x[:, :, None]).latent_dist.mean[:, :, 0]"
    decoding = "vae.decode(latents[:, :, None]).sample[:, :, 0]"

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        for name, parameter in vae.named_parameters():
            if ".time_conv." in name:
                parameter.requires_grad_(False)

    def raw(self, x: Tensor) -> Tensor:
        """Images to moments ``(B, 2Z, h, w)``, without the frames that diffusers keeps of a clip so far."""
        moments: Tensor = self.vae.quant_conv(self.vae.encoder(x[:, :, None]))
        return moments[:, :, 0]

    def image(self, raw: Tensor) -> Tensor:
        """Latents to images likewise, not clamped to [-1, 1] as diffusers does, so that all values can be learnt."""
        image: Tensor = self.vae.decoder(self.vae.post_quant_conv(raw[:, :, None]))
        return image[:, :, 0]


def _scale(args: Args, scale: float) -> Iterator[Args]:
    config = args if args.get("config") is None else args["config"]
    key = "width" if config is args else "base_dim"
    yield changed(args, {key: scaled_width(config[key], scale, 2)})


@register("net")
@scaled(Family(scale=_scale, fit=fit_half))
def autoencoder_kl_qwen_image(
    channels: int = 3,
    latent_channels: int = 16,
    width: int = 16,
    multiples: Sequence[int] = (1, 2, 2, 2),
    blocks: int = 1,
    half: HalfName | None = None,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderKlQwenImage | AutoencoderHalf:
    """The variational autoencoder of Qwen-Image, diffusers' AutoencoderKLQwenImage, which plain diffusers opens.

    Args:
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
        width: channels at full resolution.
        multiples: how many times as many there are at full, half, quarter... resolution; latents are as small as the
            last.
        blocks: residual layers at each of them in the encoder; the decoder has one more.
        half: the encoder or the decoder alone; the task says which, where it is of one.
        config: a whole configuration of an AutoencoderKLQwenImage, which counts in place of all others but ``half``.

    Raises:
        UserError: for arguments that do not fit.
    """
    levels = len(multiples) - 1
    own = {
        "input_channels": channels,
        "z_dim": latent_channels,
        "base_dim": width,
        "dim_mult": list(multiples),
        "num_res_blocks": blocks,
        "temperal_downsample": [level > 0 for level in range(levels)],
        "latents_mean": [0.0] * latent_channels,
        "latents_std": [1.0] * latent_channels,
    }
    made = construct("AutoencoderKLQwenImage", own if config is None else config)
    return halved(AutoencoderKlQwenImage(made), half)
