"""Images to latents: the encoder of an autoencoder by itself."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kdgen.data import Images
from kdgen.devices import device_of, evaluating, pick_device
from kdgen.drawing import CALL
from kdgen.model import load
from kdgen.registry import register
from kdgen.tasks.autoencode import Autoencode, Loss
from kdgen.types import Batch, Metrics, Net


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
    equivariant = False

    def __init__(
        self,
        decoder: str | Mapping[str, Any],
        images: Mapping[str, Any] | Images | None = None,
        channels: int = 3,
        patch: int = 32,
        evaluate: Mapping[str, Any] | Images | None = None,
        whole: bool = False,
        multiple: int = 16,
        num_images: int = 1000,
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

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of ``autoencode`` for the decoded images, and ``error``, that of the latents.

        It is the root of the mean squared difference to the teacher's latents as a share of their root mean square.
        """
        figures = dict(super().evaluate(net, reference=reference, seed=seed, limit=limit))
        if reference is not None and reference is not net:
            num_images = min(limit or self.num_images, self.num_images)
            images = self.whole_images(limit) if self.whole else torch.split(self._real(num_images, seed), CALL)
            pairs = [(_latents(net, y), _latents(reference, y)) for y in images]
            apart = sum((ours - theirs).square().sum().item() for ours, theirs in pairs)
            figures["error"] = (apart / sum(theirs.square().sum().item() for _, theirs in pairs)) ** 0.5
        return figures


def decoded(net: Net, z: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` of latents on the CPU, by a net's ``decode`` or else by the net itself.

    Of means and logarithms of variances, which ``latent_channels`` tells, the means are decoded.
    """
    decode = getattr(net, "decode", net)
    with evaluating(net):
        image: Tensor = decode(z[:, : getattr(net, "latent_channels", z.shape[1])].to(device_of(net))).float().cpu()
    return image


def _latents(net: Net, y: Tensor) -> Tensor:
    with evaluating(net):
        z: Tensor = net(y.to(device_of(net))).double().cpu()
    return z


__all__ = ["Encode", "decoded"]
