"""AutoencoderTiny of diffusers as a net: image to latents, latents to image, and both."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.autoencoder_half import AutoencoderHalf, HalfName, fit_half, halved
from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.pretrained import construct
from kdgen.models.scaling import Args, Family, Shapes, changed, scaled, scaled_width
from kdgen.registry import register

WIDTHS = ("encoder_block_out_channels", "decoder_block_out_channels")


@register("adapter", handle="AutoencoderTiny")
class AutoencoderTiny(Autoencoder):
    """A tiny autoencoder in the manner of TAESD: folders of diffusers' AutoencoderTiny.

    Its decoder reads latents within [-3, 3], and so as models learn them: it scales none, whatever a teacher of another
    class does. Its submodule ``latents`` passes on what the encoder says, for hooks to read.
    """

    def inherit(self, teacher: nn.Module) -> None:
        """Start from a larger one: at each size its first blocks, as in BK-SDM (Kim et al. 2024, section 3.1).

        Raises:
            UserError: for one of another class or other latents, and as ``inherit_blocks`` does.
        """
        whole = self.same_class(teacher)
        self.check_latents(whole)
        for name in WIDTHS:
            own, source = (_levels(net.vae.get_submodule(name.partition("_")[0])) for net in (self, whole))
            for ours, theirs in zip(own, source, strict=False):  # none of a half that one is without
                for layer, larger in zip(ours, theirs, strict=False):
                    inherit_blocks(layer, larger)

    def feature_layers(self) -> list[str]:
        """The layers of the encoder, the latents, and the layers of the decoder, the image left out."""
        inward, outward = len(self.vae.encoder.layers), len(self.vae.decoder.layers)
        encoder = [f"vae.encoder.layers.{i}" for i in range(inward - 1)]
        return [*encoder, "latents", *(f"vae.decoder.layers.{i}" for i in range(outward - 1))]


def _levels(half: nn.Module) -> list[list[nn.Module]]:
    """The layers of a half that have weights, parted before each convolution between the blocks."""
    parted: list[list[nn.Module]] = []
    for layer in (each for stack in half.children() for each in stack.children()):
        if isinstance(layer, nn.Conv2d):
            parted.append([])
        if list(layer.parameters()):
            parted[-1].append(layer)
    return parted


def _scale(args: Args, scale: float) -> Iterator[Args]:
    if args.get("config") is None:
        yield {**args, "width": scaled_width(args["width"], scale)}
    else:
        yield changed(args, {key: scaled_width(args["config"][key], scale) for key in WIDTHS})


def _fresh(shapes: Shapes) -> Args:
    """As many levels as the half of another's teacher has."""
    sides = sorted((shapes.inputs[-1], shapes.outputs[-1]))
    levels = (sides[1] // sides[0]).bit_length()
    return dict.fromkeys(("encoder_blocks", "decoder_blocks"), (1,) * levels) if levels > 1 else {}


@register("net")
@scaled(Family(scale=_scale, fit=fit_half, fresh=_fresh))
def autoencoder_tiny(
    channels: int = 3,
    latent_channels: int = 4,
    width: int = 32,
    encoder_blocks: Sequence[int] = (1, 1, 1),
    decoder_blocks: Sequence[int] = (1, 1, 1),
    half: HalfName | None = None,
    config: Mapping[str, Any] | None = None,
) -> AutoencoderTiny | AutoencoderHalf:
    """A tiny autoencoder in the manner of TAESD, diffusers' AutoencoderTiny, which plain diffusers opens.

    Args:
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
        width: channels of all layers between.
        encoder_blocks: blocks at full, half, quarter... resolution; latents are as small as the last.
        decoder_blocks: blocks on the way back, the coarsest first.
        half: the encoder or the decoder alone; the task says which, where it is of one.
        config: a whole configuration of an AutoencoderTiny, which counts in place of all others but ``half``.

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
    return halved(AutoencoderTiny(construct("AutoencoderTiny", own if config is None else config)), half)
