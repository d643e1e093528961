"""What nets around autoencoders of diffusers have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import JsonValue
from torch import Tensor, nn

from kdgen import registry
from kdgen.models.adapters.adapter import Adapter
from kdgen.models.adapters.pretrained import read_json
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec
from kdgen.types import UserError, text

SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""What pipelines read of a model's configuration to scale latents before they decode them."""


class Autoencoder(Adapter):
    """A net around an autoencoder of diffusers, whose images are in [-1, 1] as kdgen's are.

    Attributes:
        vae: diffusers' model.
        encoded: the latents among what its ``encode`` returns, ``latents``.
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
    """

    part = "vae"
    encoded: ClassVar[str] = "latents"
    conditions: frozenset[str] = frozenset()
    halves: ClassVar = {
        "encoder": ("vae.encoder", "vae.quant_conv", "moments", "latents"),
        "decoder": ("vae.decoder", "vae.post_quant_conv"),
    }

    def __init__(self, vae: Any) -> None:
        super().__init__()
        inputs, outputs = vae.config.in_channels, vae.config.out_channels
        if outputs != inputs or inputs not in (1, 3):
            raise UserError(text("autoencoder_channels", "an autoencoder reads and gives images of 1 or 3 channels; "
                                 "this one reads {inputs} and gives {outputs}, which is not handled",
                                 inputs=str(inputs), outputs=str(outputs)))  # fmt: skip
        self.vae = vae
        self.channels: int = inputs
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

    def load_files(self, folder: Path) -> None:
        """Read the weights from the subfolder ``vae``, and how its latents are scaled.

        Raises UserError if they are damaged or do not fit.
        """
        super().load_files(folder)
        self._scale_as(read_json(folder / self.part / "config.json"))

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that encode and decode by plain diffusers."""
        name = registry.handles_of("adapter", use.name)[0]
        return (f'from diffusers import {name}\n\n'
                f'vae = {name}.from_pretrained("{repo}", subfolder="{cls.part}")\n'
                f"latents = vae.encode(x).{cls.encoded}  # x (B, C, H, W) in [-1, 1]\n"
                "images = vae.decode(latents).sample")  # fmt: skip

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        return {"name": task_having(half="whole"), "channels": self.channels}
