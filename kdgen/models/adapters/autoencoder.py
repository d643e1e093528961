"""What nets around autoencoders of diffusers have in common: one form of latents, that in which models learn them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import JsonValue
from torch import Tensor, nn

from kdgen import registry
from kdgen.models.adapters.adapter import Adapter
from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.latent_scale import SCALES, statistics
from kdgen.models.adapters.module import Half
from kdgen.models.adapters.pretrained import read_json
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec
from kdgen.types import UserError, text


class Autoencoder(Adapter):
    """A net around an autoencoder of diffusers, whose images are in [-1, 1] as kdgen's are.

    Its latents are those that models of pipelines learn: what diffusers' ``encode`` gives, scaled as its own pipelines
    scale it by the autoencoder's own word. So whatever takes another's place by its latents does so in a pipeline too,
    where each is handed what it itself says: ``pipe.vae = student``.

    Attributes:
        vae: diffusers' model.
        named: what its configuration calls the channels of its images, those of its latents, and a list of its levels.
        encoding, decoding: how plain diffusers encodes images ``x`` and decodes ``latents``, as code.
        channels: channels C of its images.
        latent_channels: channels Z of its latents.
        reduction: how many times higher and wider its images are than its latents.
        latents: the module that passes on the latents, for hooks to read.
    """

    part = "vae"
    named: ClassVar[tuple[str, str, str]] = ("in_channels", "latent_channels", "block_out_channels")
    encoding: ClassVar[str] = "vae.encode(x).latents"
    decoding: ClassVar[str] = "vae.decode(latents).sample"
    conditions: frozenset[str] = frozenset()
    halves: ClassVar = {
        "encoder": ("vae.encoder", "vae.quant_conv", "moments", "latents"),
        "decoder": ("vae.decoder", "vae.post_quant_conv"),
    }

    def __init__(self, vae: Any) -> None:
        super().__init__()
        inputs, latents, levels = (vae.config[key] for key in self.named)
        outputs = vae.config.get("out_channels", inputs)
        if outputs != inputs or inputs not in (1, 3):
            raise UserError(text("autoencoder_channels", "an autoencoder reads and gives images of 1 or 3 channels; "
                                 "this one reads {inputs} and gives {outputs}, which is not handled",
                                 inputs=str(inputs), outputs=str(outputs)))  # fmt: skip
        self.vae = vae
        self.channels: int = inputs
        self.latent_channels: int = latents
        self.reduction = 2 ** (len(levels) - 1)
        self.latents = nn.Identity()

    def raw(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to latents ``(B, Z, h, w)`` as diffusers' ``encode`` gives them."""
        z: Tensor = self.vae.encode(x).latents
        return z

    def image(self, raw: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)`` as diffusers' ``decode`` takes them to images ``(B, C, H, W)``."""
        image: Tensor = self.vae.decode(raw).sample
        return image

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of raw latents that its pipelines take, to be broadcast over such ``(B, Z, h, w)``."""
        return statistics(self.vae.config, like)

    def encode(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to latents ``(B, Z, h, w)``."""
        raw = self.raw(x)
        mean, deviation = self.statistics(raw)
        z: Tensor = self.latents((raw - mean) / deviation)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)``, as the encoder gives them, to images ``(B, C, H, W)`` about [-1, 1]."""
        mean, deviation = self.statistics(z)
        return self.image(z * deviation + mean)

    def forward(self, x: Tensor) -> Tensor:
        """Images to images.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1]; height and width are multiples of the reduction.
        """
        return self.decode(self.encode(x))

    def adopt(self, teacher: nn.Module) -> None:
        """Have pipelines scale latents as they do for a teacher of its own class.

        Raises:
            UserError: for a teacher whose latents are of another shape, in whose place this net cannot be put.
        """
        whole = whole_of(teacher)
        if isinstance(whole, Autoencoder):
            self.check_latents(whole)
            if isinstance(whole, type(self)):
                self.scale_as(whole)

    def check_latents(self, teacher: "Autoencoder") -> None:
        """Refuse a teacher whose latents are of another shape. Raises UserError with both."""
        if (self.latent_channels, self.reduction) != (teacher.latent_channels, teacher.reduction):
            raise UserError(text("other_latents", "the student's latents have {channels} channels at 1/{reduction} of "
                                 "the image's size and its teacher's {theirs} at 1/{times}: give it as many channels "
                                 "and levels, so that it can take the teacher's place", channels=self.latent_channels,
                                 reduction=self.reduction, theirs=teacher.latent_channels,
                                 times=teacher.reduction))  # fmt: skip

    def scale_as(self, teacher: "Autoencoder") -> None:
        """Have pipelines scale its latents as those of another of its class."""
        self._note_scales(teacher.vae.config)

    def _note_scales(self, config: Mapping[str, Any]) -> None:
        self.vae.register_to_config(**{key: config[key] for key in SCALES if key in config})

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger one of its class. Raises UserError as ``inherit_blocks`` does."""
        inherit_blocks(self.vae, self.same_class(teacher).vae)

    def same_class(self, teacher: nn.Module) -> "Autoencoder":
        """The autoencoder of its class that a teacher is or is a half of. Raises UserError for one of another."""
        whole = whole_of(teacher)
        if not isinstance(whole, type(self)):
            raise UserError(text("autoencoder_start", "a {own} starts from another, not from a {type}",
                                 own=type(self).__name__, type=type(whole).__name__))  # fmt: skip
        return whole

    def load_files(self, folder: Path) -> None:
        """Read the weights from the subfolder ``vae``, and how its latents are scaled.

        Raises UserError if they are damaged or do not fit.
        """
        super().load_files(folder)
        self.load_scales(folder)

    def load_scales(self, folder: Path) -> None:
        """Read from the subfolder ``vae`` how its latents are scaled. Raises UserError for a damaged configuration."""
        self._note_scales(read_json(folder / self.part / "config.json"))

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that encode and decode by plain diffusers, those of a half that it does."""
        name, half = registry.handles_of("adapter", use.name)[0], use.args.get("half")
        lines = {"encoder": f"latents = {cls.encoding}  # x (B, C, H, W) in [-1, 1]",
                 "decoder": f"images = {cls.decoding}"}  # fmt: skip
        opened = f'vae = {name}.from_pretrained("{repo}", subfolder="{cls.part}")  # in a pipeline: pipe.vae = vae'
        used = [line for each, line in lines.items() if half in (None, each)]
        return "\n".join([f"from diffusers import {name}", "", opened, *used])

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        return {"name": task_having(half="whole"), "channels": self.channels}

    def extra_repr(self) -> str:
        """What its weights do not say: the scales of its latents."""
        return ", ".join(f"{key}={self.vae.config[key]}" for key in SCALES if self.vae.config.get(key) is not None)


def whole_of(net: nn.Module) -> nn.Module:
    """The autoencoder of which a net is a half, or the net itself."""
    return net.net if isinstance(net, Half) else net


__all__ = ["Autoencoder", "whole_of"]
