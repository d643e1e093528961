"""SanaTransformer2DModel: a flow of latents that is told words, Xie et al. 2024 (arXiv 2410.10629)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import transformer
from kdgen.models.adapters.latent_schedulers import flow_scheduler
from kdgen.models.scaling import scaled
from kdgen.registry import register
from kdgen.types import UserError, text


@register("adapter", handle="SanaPipeline")
class Sana(LatentModel):
    """Sana: pipelines of diffusers around a SanaTransformer2DModel, whose attention takes linear time."""

    part = "transformer"
    inseparable = "SanaTransformer2DModel"
    predicts_flow = True
    pixels = 32
    text_parts = ("tokenizer", "text_encoder")
    encoded = ("words", "words_mask", "-words", "-words_mask")
    options: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}

    def __init__(self, model: Any, scheduler: Any, pipeline: str) -> None:
        if model.config.guidance_embeds:
            raise UserError(text("sana_guidance", "a {name} that is told the scale of guidance is that of another "
                                 "pipeline, SanaSprintPipeline, which is not handled",
                                 name=self.inseparable))  # fmt: skip
        super().__init__(model, scheduler, pipeline)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """300 words, and which of them there are."""
        return {"words": (300, self.model.config.caption_channels), "words_mask": (300,)}

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """The velocity, ``(B, Z, h, w)``."""
        out: Tensor = self.model(z, timestep=t * self.model.config.timestep_scale, encoder_hidden_states=cond["words"],
                                 encoder_attention_mask=cond["words_mask"]).sample  # fmt: skip
        return out


@register("net")
@scaled(
    transformer(
        "SanaTransformer2DModel",
        heads=("num_attention_heads", "num_cross_attention_heads"),
        widths=("cross_attention_dim",),
    )
)
def sana(
    size: int = 32,
    latent_channels: int = 32,
    depth: int = 4,
    heads: int = 4,
    head_dim: int = 16,
    words_dim: int = 2304,
    shift: float = 3.0,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["SanaPipeline"] = "SanaPipeline",
) -> Sana:
    """A flow of latents that is told words, diffusers' SanaTransformer2DModel.

    Args:
        size: height and width of its latents.
        latent_channels: channels Z of its latents.
        depth: blocks.
        heads: of attention, to latents and to words.
        head_dim: channels of a head.
        words_dim: channels D of the words.
        shift: how far the times of its sampler are moved towards noise.
        config: a whole configuration of a SanaTransformer2DModel, which counts in place of the arguments up to there.
        scheduler: that of a scheduler with its ``_class_name``, in place of ``shift``.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = {"sample_size": size, "in_channels": latent_channels, "out_channels": latent_channels, "patch_size": 1,
           "num_layers": depth, "num_attention_heads": heads, "attention_head_dim": head_dim,
           "num_cross_attention_heads": heads, "cross_attention_head_dim": head_dim,
           "cross_attention_dim": heads * head_dim, "caption_channels": words_dim}  # fmt: skip
    return Sana.built(own if config is None else config, scheduler or flow_scheduler(shift), pipeline)
