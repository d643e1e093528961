"""FluxTransformer2DModel: a flow of packed latents that is told words, with the scale of guidance among its inputs."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import transformer
from kdgen.models.adapters.latent_schedulers import flow_scheduler
from kdgen.models.adapters.pipeline_parts import usual_value
from kdgen.models.scaling import scaled
from kdgen.registry import register

SIZE = 128
"""Height and width of latents where its pipeline is told no other."""


@register("adapter", handle="FluxPipeline")
class Flux(LatentModel):
    """Flux 1: pipelines of diffusers around a FluxTransformer2DModel, which reads squares of 2x2 latents as one."""

    part = "transformer"
    inseparable = "FluxTransformer2DModel"
    predicts_flow = falls_evenly = True
    patch = 2
    pixels = 1
    blocks = ("transformer_blocks", "single_transformer_blocks")
    text_parts = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    encoded = ("words", "pooled", "")

    def __init__(self, model: Any, scheduler: Any, pipeline: str, size: int = SIZE) -> None:
        self.side = size
        super().__init__(model, scheduler, pipeline)

    def further(self) -> dict[str, Any]:
        """The size at which it draws."""
        return {"size": self.size}

    def latents(self) -> tuple[int, int]:
        """A quarter of the channels of what is packed, and the size that it was told."""
        return self.model.config.in_channels // 4, self.side

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """512 words as T5 reads them, what CLIP pools of them, and guidance if it was taught that."""
        config = self.model.config
        told = {"words": (512, config.joint_attention_dim), "pooled": (config.pooled_projection_dim,)}
        return {**told, "guidance": ()} if config.guidance_embeds else told

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """The velocity, ``(B, Z, h, w)``, of latents of even height and width."""
        height, width = z.shape[-2] // 2, z.shape[-1] // 2
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1).to(z)
        out = self.model(hidden_states=packed(z), timestep=t / self.scheduler.config.num_train_timesteps,
                         encoder_hidden_states=cond["words"], pooled_projections=cond["pooled"],
                         guidance=cond.get("guidance"), img_ids=places,
                         txt_ids=torch.zeros(cond["words"].shape[1], 3).to(z)).sample  # fmt: skip
        return unpacked(out, height, width)

    def told_always(self, pipe: Any) -> dict[str, Tensor]:
        """The guidance of its pipeline, if it was taught any."""
        usual = float(usual_value(self.pipeline, "guidance_scale"))
        return {"guidance": torch.tensor(usual)} if "guidance" in self.conditions else {}

    def latents_of(self, pipe: Any, told: Mapping[str, Any]) -> Tensor:
        """The latents ``(B, Z, h, w)`` that its pipeline draws, unpacked."""
        return unpacked(super().latents_of(pipe, told), self.size // 2, self.size // 2)


def packed(z: Tensor) -> Tensor:
    """Latents ``(B, Z, 2h, 2w)`` as squares ``(B, h * w, 4Z)``, each channel's four values side by side."""
    b, channels, height, width = z.shape
    apart = z.reshape(b, channels, height // 2, 2, width // 2, 2)
    return apart.permute(0, 2, 4, 1, 3, 5).reshape(b, height * width // 4, 4 * channels)


def unpacked(squares: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``packed``, of a number of squares below and beside each other."""
    apart = squares.reshape(len(squares), height, width, -1, 2, 2)
    return apart.permute(0, 3, 1, 4, 2, 5).reshape(len(squares), -1, 2 * height, 2 * width)


@register("net")
@scaled(transformer("FluxTransformer2DModel", layers=("num_layers", "num_single_layers")))
def flux(
    size: int = SIZE,
    latent_channels: int = 16,
    depth: int = 2,
    single_depth: int = 4,
    heads: int = 4,
    head_dim: int = 16,
    words_dim: int = 4096,
    pooled_dim: int = 768,
    guided: bool = True,
    shift: float = 3.0,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["FluxPipeline"] = "FluxPipeline",
) -> Flux:
    """A flow of packed latents that is told words, diffusers' FluxTransformer2DModel.

    Args:
        size: height and width of its latents, an even number, which its pipeline is told to draw.
        latent_channels: channels Z of its latents.
        depth: blocks with weights of their own for latents and for words.
        single_depth: blocks behind them with the same weights for both.
        heads: of attention.
        head_dim: channels of a head, an even number of 6 or more.
        words_dim: channels D of the words.
        pooled_dim: channels P of the pooled words.
        guided: whether it is told the scale of guidance.
        shift: how far the times of its sampler are moved towards noise.
        config: a whole configuration of a FluxTransformer2DModel, in place of all but ``size`` and ``shift``.
        scheduler: that of a scheduler with its ``_class_name``, in place of ``shift``.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    side = head_dim * 7 // 16 // 2 * 2
    own = {"in_channels": 4 * latent_channels, "num_layers": depth, "num_single_layers": single_depth,
           "num_attention_heads": heads, "attention_head_dim": head_dim, "joint_attention_dim": words_dim,
           "pooled_projection_dim": pooled_dim, "guidance_embeds": guided, "patch_size": 1,
           "axes_dims_rope": (head_dim - 2 * side, side, side)}  # fmt: skip
    return Flux.built(own if config is None else config, scheduler or flow_scheduler(shift), pipeline, size=size)
