"""SD3Transformer2DModel: a flow of latents that is told words, Esser et al. 2024 (arXiv 2403.03206)."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import transformer
from kdgen.models.adapters.latent_schedulers import flow_scheduler
from kdgen.models.scaling import scaled
from kdgen.registry import register


@register("adapter", handle="StableDiffusion3Pipeline")
class StableDiffusion3(LatentModel):
    """Stable Diffusion 3 and 3.5: pipelines of diffusers around an SD3Transformer2DModel."""

    part = "transformer"
    inseparable = "SD3Transformer2DModel"
    predicts_flow = True
    pixels = 1
    text_parts = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    encoded = ("words", "-words", "pooled", "-pooled")

    def largest(self) -> int:
        """As many squares as it has places for."""
        return int(self.model.config.pos_embed_max_size) * self.squares()

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """77 words as CLIP and 256 as T5 reads them, and what is pooled of them."""
        config = self.model.config
        return {"words": (333, config.joint_attention_dim), "pooled": (config.pooled_projection_dim,)}

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """The velocity, ``(B, Z, h, w)``."""
        out: Tensor = self.model(z, timestep=t, encoder_hidden_states=cond["words"],
                                 pooled_projections=cond["pooled"]).sample  # fmt: skip
        return out


@register("net")
@scaled(transformer("SD3Transformer2DModel", widths=("caption_projection_dim",)))
def stable_diffusion3(
    size: int = 32,
    latent_channels: int = 16,
    patch: int = 2,
    depth: int = 4,
    heads: int = 4,
    head_dim: int = 16,
    words_dim: int = 4096,
    pooled_dim: int = 2048,
    shift: float = 3.0,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["StableDiffusion3Pipeline"] = "StableDiffusion3Pipeline",
) -> StableDiffusion3:
    """A flow of latents that is told words, diffusers' SD3Transformer2DModel.

    Args:
        size: height and width of its latents, a multiple of ``patch``.
        latent_channels: channels Z of its latents.
        patch: side of the squares of latents that it looks at.
        depth: blocks, in which latents and words look at each other.
        heads: of attention.
        head_dim: channels of a head.
        words_dim: channels D of the words.
        pooled_dim: channels P of the pooled words.
        shift: how far the times of its sampler are moved towards noise.
        config: a whole configuration of an SD3Transformer2DModel, which counts in place of the arguments up to there.
        scheduler: that of a scheduler with its ``_class_name``, in place of ``shift``.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = {"sample_size": size, "in_channels": latent_channels, "out_channels": latent_channels, "patch_size": patch,
           "num_layers": depth, "num_attention_heads": heads, "attention_head_dim": head_dim,
           "joint_attention_dim": words_dim, "caption_projection_dim": heads * head_dim,
           "pooled_projection_dim": pooled_dim, "pos_embed_max_size": size // patch}  # fmt: skip
    return StableDiffusion3.built(own if config is None else config, scheduler or flow_scheduler(shift), pipeline)
