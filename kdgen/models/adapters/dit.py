"""DiTTransformer2DModel: a transformer of latents that is told a class, Peebles & Xie 2023 (arXiv 2212.09748)."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import transformer
from kdgen.models.adapters.latent_schedulers import table_scheduler
from kdgen.models.scaling import scaled
from kdgen.registry import register
from kdgen.types import UserError, text

NO_CLASS = 1000
"""What its pipeline tells the model in place of a class: the one behind those of ImageNet."""


@register("adapter", handle="DiTPipeline")
class Dit(LatentModel):
    """DiT: pipelines of diffusers around a DiTTransformer2DModel, of which the mean is used and no variance.

    The number behind its last class means none.
    """

    part = "transformer"
    inseparable = "DiTTransformer2DModel"
    usual_told = "[0]"
    opens_lora = False
    one_size = True

    def __init__(self, model: Any, scheduler: Any, pipeline: str) -> None:
        super().__init__(model, scheduler, pipeline)
        self.num_classes = model.config.num_embeds_ada_norm
        for block in model.transformer_blocks:  # whoever trains it says when it is told no class
            block.norm1.emb.class_embedder.dropout_prob = 0.0

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """A class."""
        return {"label": ()}

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """What the model says, ``(B, Z, h, w)``, or with variances ``(B, 2Z, h, w)``."""
        out: Tensor = self.model(z, timestep=t, class_labels=cond["label"]).sample
        return out

    def null(self, prompt: str = "") -> dict[str, Tensor]:
        """The number that means no class. Raises UserError for a prompt."""
        if prompt:
            raise self._wordless()
        return {"label": torch.tensor(self.num_classes)}

    def told(self, num_images: int, label: Tensor | None, prompts: Sequence[str] | None) -> dict[str, list[Any]]:
        """The classes, one an image; by default all in turn. Raises UserError for prompts."""
        if prompts is not None:
            raise self._wordless()
        classes = torch.arange(num_images) % (self.num_classes or 1) if label is None else label
        return {"class_labels": classes.tolist()}

    def called_with(self, pipe: Any, guidance: float | None) -> dict[str, Any]:
        """The guidance if any is given, and none where its pipeline has no number for no class."""
        if self.num_classes != NO_CLASS and (guidance or 1) > 1:
            raise UserError(text("dit_guidance", "plain diffusers guides a DiT of {classes} classes alone, not one of "
                                 "{own}: leave guidance out", classes=NO_CLASS, own=self.num_classes))  # fmt: skip
        if self.num_classes != NO_CLASS:
            guidance = 1.0
        return {} if guidance is None else {"guidance_scale": float(guidance)}

    def usual_guidance(self) -> float | None:
        """That of its pipeline, where this has a number for no class."""
        return super().usual_guidance() if self.num_classes == NO_CLASS else None

    def reduction(self, pipe: Any) -> int:
        """How many times higher and wider its pictures are than its latents."""
        return int(2 ** (len(pipe.vae.config.block_out_channels) - 1))

    def latents_of(self, pipe: Any, told: Mapping[str, Any]) -> Tensor:
        """The latents that a call of its pipeline hands to the decoder: it returns none itself."""
        seen: list[Tensor] = []

        def decode(latents: Tensor) -> Any:
            seen.append(latents)
            return SimpleNamespace(sample=latents)

        stand_in = SimpleNamespace(config=SimpleNamespace(**{**pipe.vae.config, "scaling_factor": 1.0}), decode=decode)
        object.__setattr__(pipe, "vae", stand_in)
        pipe(**told, output_type="np")
        return seen[-1]


@register("net")
@scaled(transformer("DiTTransformer2DModel"))
def dit(
    size: int = 32,
    latent_channels: int = 4,
    patch: int = 2,
    depth: int = 4,
    heads: int = 4,
    head_dim: int = 16,
    num_classes: int = NO_CLASS,
    num_train_timesteps: int = 1000,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["DiTPipeline"] = "DiTPipeline",
) -> Dit:
    """A transformer of latents that is told a class, diffusers' DiTTransformer2DModel.

    Args:
        size: height and width of its latents, a multiple of ``patch``.
        latent_channels: channels Z of its latents.
        patch: side of the squares of latents that it looks at.
        depth: blocks.
        heads: of attention.
        head_dim: channels of a head.
        num_classes: that it is told.
        num_train_timesteps: noise levels in its table, with linear betas.
        config: a whole configuration of a DiTTransformer2DModel, which counts in place of the arguments up to there.
        scheduler: that of a scheduler with its ``_class_name``, in place of ``num_train_timesteps``.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = {"sample_size": size, "in_channels": latent_channels, "out_channels": latent_channels, "patch_size": patch,
           "num_layers": depth, "num_attention_heads": heads, "attention_head_dim": head_dim,
           "num_embeds_ada_norm": num_classes}  # fmt: skip
    noise = scheduler or table_scheduler("epsilon", num_train_timesteps, "linear")
    return Dit.built(own if config is None else config, noise, pipeline)
