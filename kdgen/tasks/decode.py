"""Latents to images: the decoder of an autoencoder by itself."""

from functools import cached_property
from typing import Any

from torch import Tensor

from kdgen.data.source import ImageSource
from kdgen.models.input_shape import error_line
from kdgen.models.model import Model, load
from kdgen.registry import register
from kdgen.tasks.autoencode import Autoencode
from kdgen.tasks.latents import encoded
from kdgen.tasks.near_truth import Loss
from kdgen.types import Net, UserError, text
from kdgen.types.arguments import Channels, Count
from kdgen.utils.devices import pick_device
from kdgen.utils.references import ModelReference


@register("task")
class Decode(Autoencode):
    """Make images from the latents that an encoder gives for images: what the decoder of an autoencoder does.

    The truth is the image that was encoded. Where the encoder is the teacher's, ``psnr@teacher`` says how well a net
    decodes the teacher's latents.

    Args:
        encoder: a model by reference or a declared checkpoint, whose ``encode``, or else whose output, gives the
            latents; of means and logarithms of variances the means.
        images, channels, patch, evaluate, whole, multiple, loss, num_images, features: as for ``autoencode``.

    Raises:
        UserError: for an argument that does not fit, or a model that cannot be loaded.
    """

    name = "decode"
    half, usual_preset = "decoder", "vae-decoder"
    reads = "latents"
    alike = frozenset({"generate"})
    equivariant = False

    def __init__(
        self,
        encoder: ModelReference,
        images: ImageSource | None = None,
        channels: Channels = 3,
        patch: Count = 32,
        evaluate: ImageSource | None = None,
        whole: bool = False,
        multiple: Count = 16,
        loss: Loss = "charbonnier",
        num_images: Count = 1000,
        features: str = "features32",
    ) -> None:
        super().__init__(images, channels, patch, evaluate, whole, multiple, loss, num_images, features)
        self.owner: Model = load(encoder)
        self.encoder: Net = self.owner.net.to(pick_device("auto"))
        try:
            self.example()
        except (RuntimeError, TypeError, ValueError) as error:  # what a net's code raises for an input that is not its
            raise UserError(text("decode_encoder", "decode: {name} takes no images {channels}x{patch}x{patch} "
                                 "({error}): set task.args.encoder to a model that encodes them", name=self.owner.name,
                                 channels=channels, patch=patch, error=error_line(error))) from None  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of the description, the source of images and the encoder."""
        return f"{super().fingerprint()}-{self._encoder_fingerprint}"

    @cached_property
    def _encoder_fingerprint(self) -> str:
        """A hash of the encoder, which no training changes."""
        return self.owner.fingerprint()

    def describe(self) -> dict[str, Any]:
        """Name, size of patches, channels, and the shape of their latents."""
        return super().describe() | {"latent": list(self.example().x.shape[1:])}

    def seen(self, y: Tensor) -> Tensor:
        """The latents of images ``(B, C, H, W)``, on the CPU."""
        return encoded(self.encoder, y)
