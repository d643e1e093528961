"""One half of an autoencoder of diffusers as a student, and how such nets are fitted to the half of a teacher."""

from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from kdgen.models.adapters.autoencoder import Autoencoder
from kdgen.models.adapters.module import Half
from kdgen.models.adapters.pretrained import construct, portable, public, quiet, read_weights, write
from kdgen.models.scaling import Args, Shapes
from kdgen.models.task_arguments import task_class

HalfName = Literal["encoder", "decoder"]
N = TypeVar("N", bound=Autoencoder)


class AutoencoderHalf(Half):
    """The encoder or the decoder of an autoencoder by itself.

    Plain diffusers opens wholes alone: it is written as one whose other half is all zeros.

    Attributes:
        channels: channels C of its images.
    """

    def __init__(self, net: Autoencoder, half: str) -> None:
        super().__init__(net, half)
        self.channels = net.channels

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder, less the other half."""
        return cast(Autoencoder, self.net)

    def adopt(self, teacher: nn.Module) -> None:
        """Have pipelines scale latents as for a teacher: see ``Autoencoder.adopt``."""
        self.autoencoder.adopt(teacher)

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger one: see ``Autoencoder.inherit``."""
        self.autoencoder.inherit(teacher)

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the whole as diffusers does, into its subfolder, its weights in ``dtype`` if given."""
        whole = self._whole()
        own = self.autoencoder.vae.state_dict()
        whole.load_state_dict({key: own.get(key, torch.zeros_like(value)) for key, value in whole.state_dict().items()})
        write(portable(whole, dtype), folder / self.autoencoder.part)

    def load_files(self, folder: Path) -> None:
        """Read the weights of this half of a whole. Raises UserError if they are damaged or do not fit."""
        whole, own = self._whole(), self.autoencoder.vae
        read_weights(whole, folder / self.autoencoder.part)
        own.load_state_dict({key: value for key, value in whole.state_dict().items() if key in own.state_dict()})
        self.autoencoder.load_scales(folder)

    def _whole(self) -> Any:
        vae = self.autoencoder.vae
        with quiet():
            return construct(type(vae).__name__, public(vae.config))


def halved(net: N, half: HalfName | None) -> N | AutoencoderHalf:
    """An autoencoder, or one half of it."""
    return net if half is None else AutoencoderHalf(net, half)


def fit_half(shapes: Shapes) -> Args:
    """The ``fit`` of an autoencoder: of a whole one its channels; of a half which it is too, and of a decoder Z."""
    half = task_class(shapes.task).half
    if half == "decoder":
        return {"half": half, "channels": shapes.outputs[0], "latent_channels": shapes.inputs[0]}
    return {"channels": shapes.inputs[0], **({"half": half} if half == "encoder" else {})}


__all__ = ["AutoencoderHalf", "HalfName", "fit_half", "halved"]
