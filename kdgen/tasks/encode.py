"""Images to latents: the encoder of an autoencoder by itself."""

from collections.abc import Iterator

from torch import Tensor

from kdgen.data.source import ImageSource
from kdgen.models.model import load
from kdgen.registry import register
from kdgen.tasks.autoencode import Autoencode
from kdgen.tasks.latents import decoded, encoded, latent_error
from kdgen.tasks.near_truth import Loss
from kdgen.types import Batch, Metrics, Net
from kdgen.types.arguments import Channels, Count
from kdgen.utils.devices import pick_device
from kdgen.utils.references import ModelReference


@register("task")
class Encode(Autoencode):
    """Make of images the latents that a teacher makes of them: what the encoder of an autoencoder does.

    There is no ground truth: only the teacher says what an image's latents are. They are judged by the images that a
    decoder makes of them.

    Args:
        decoder: a model by reference or a declared checkpoint, whose ``decode``, or else whose output, gives images
            for latents.
        images, channels, patch, evaluate, whole, multiple, num_images, features: as for ``autoencode``.

    Raises:
        UserError: for an argument that does not fit, or a model that cannot be loaded.
    """

    name = "encode"
    half, usual_preset = "encoder", "vae-decoder"
    gives = "latents"
    pipeline_tag = "image-feature-extraction"
    equivariant = False

    def __init__(
        self,
        decoder: ModelReference,
        images: ImageSource | None = None,
        channels: Channels = 3,
        patch: Count = 32,
        evaluate: ImageSource | None = None,
        whole: bool = False,
        multiple: Count = 16,
        num_images: Count = 1000,
        features: str = "features32",
    ) -> None:
        loss: Loss = "charbonnier"
        super().__init__(images, channels, patch, evaluate, whole, multiple, loss, num_images, features)
        self.decoder: Net = load(decoder).net.to(pick_device("auto"))

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` patches ``(B, C, patch, patch)``, without truth."""
        for y in self.patches(batch_size=batch_size, seed=seed, start=start):
            yield Batch(x=y)

    def shown(self, out: Tensor) -> Tensor:
        """The images ``(B, C, H, W)`` that the decoder makes of latents, on the CPU."""
        return decoded(self.decoder, out)

    def answer_shape(self, batch: Batch) -> None:
        """None: only the teacher says what an image's latents are."""

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of ``autoencode`` for the decoded images, and ``latent_error``.

        That is the mean squared difference to the teacher's latents as a share of their variance; of Gaussian latents
        the means count. With the teacher's own decoder ``psnr@teacher`` says what it makes of a net's latents.
        """
        figures = dict(super().evaluate(net, reference=reference, seed=seed, limit=limit))
        if reference is not None and reference is not net:
            images = list(self.measured(seed, limit))
            ours, theirs = ([encoded(each, y) for y in images] for each in (net, reference))
            if ours[0].shape == theirs[0].shape:
                figures["latent_error"] = latent_error(ours, theirs)
        return figures
