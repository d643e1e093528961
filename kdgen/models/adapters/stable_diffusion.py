"""UNet2DConditionModel of Stable Diffusion 1, 2 and XL: a U-Net of latents that is told words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import unet
from kdgen.models.adapters.latent_schedulers import table_scheduler
from kdgen.models.adapters.pretrained import read_json
from kdgen.models.adapters.unet2d_config import halved
from kdgen.models.scaling import scaled
from kdgen.registry import register
from kdgen.types import UserError, text

XL = "StableDiffusionXLPipeline"
WORDS = 77
"""How many CLIP's tokenizers read, unless they say otherwise."""

SIZES, SIZE_DIM = 6, 256
"""Numbers that the model of XL is told of a picture's size, and channels that each is embedded in."""


@register("adapter", handle=("StableDiffusionPipeline", XL))
class StableDiffusion(LatentModel):
    """Stable Diffusion 1, 2 and XL: pipelines of diffusers around a UNet2DConditionModel.

    The model of XL is told ``pooled`` words and ``sizes`` too.
    """

    part = "unet"
    inseparable = "UNet2DConditionModel"
    text_parts: tuple[str, ...] = ("tokenizer", "text_encoder")
    encoded: tuple[str, ...] = ("words", "-words")
    blocks = ("down_blocks", "mid_block", "up_blocks")

    def __init__(self, model: Any, scheduler: Any, pipeline: str) -> None:
        self.xl = pipeline == XL
        kinds = model.config.addition_embed_type, model.config.class_embed_type, model.config.encoder_hid_dim_type
        if (*kinds, model.config.num_class_embeds) != ("text_time" if self.xl else None, None, None, None):
            raise UserError(text("stable_diffusion_told", "the model of a {pipeline} is told the timestep and words, "
                                 "of XL their pooled form and sizes too; one told other things is not handled",
                                 pipeline=pipeline))  # fmt: skip
        super().__init__(model, scheduler, pipeline)
        if self.xl:
            self.text_parts += ("tokenizer_2", "text_encoder_2")
            self.encoded += ("pooled", "-pooled")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As many words as its tokenizer reads; of XL what is pooled of them, and sizes; guidance if it has a place."""
        config = self.model.config
        told: dict[str, tuple[int, ...]] = {"words": (self._num_words(), config.cross_attention_dim)}
        if config.time_cond_proj_dim is not None:
            told["guidance"] = ()
        if not self.xl:
            return told
        sizes = SIZES * config.addition_time_embed_dim
        return {**told, "pooled": (config.projection_class_embeddings_input_dim - sizes,), "sizes": (SIZES,)}

    def _num_words(self) -> int:
        file = None if self.folder is None else self.folder / "tokenizer" / "tokenizer_config.json"
        known = read_json(file) if file is not None and file.is_file() else {}
        return int(known.get("model_max_length", WORDS))

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """What the model says, ``(B, Z, h, w)``."""
        added = {"text_embeds": cond["pooled"], "time_ids": cond["sizes"]} if self.xl else None
        told = scale_embedding(cond["guidance"], self.model.config.time_cond_proj_dim) if "guidance" in cond else None
        out: Tensor = self.model(z, t, encoder_hidden_states=cond["words"], added_cond_kwargs=added,
                                 timestep_cond=told).sample  # fmt: skip
        return out

    @torch.no_grad()
    def inherit(self, teacher: nn.Module) -> None:
        """Start from a larger one: as it is at every guidance, where it was told of none; see the base."""
        super().inherit(teacher)
        if isinstance(teacher, StableDiffusion) and "guidance" in self.conditions - teacher.conditions:
            self.model.time_embedding.cond_proj.weight.zero_()

    def told_always(self, pipe: Any) -> dict[str, Tensor]:
        """Of XL, that a picture is of its own size and whole."""
        side = self.size * self.reduction(pipe)
        return {"sizes": torch.tensor([side, side, 0, 0, side, side], dtype=torch.float32)} if self.xl else {}


def scale_embedding(scale: Tensor, dim: int) -> Tensor:
    """Scales of guidance ``(B,)`` as pipelines tell their model of them, ``(B, dim)``: sines of ``1000 (scale - 1)``.

    Meng et al. 2023 (arXiv 2210.03142), section 3.1: an embedding as that of the timestep.
    """
    from diffusers.models.embeddings import get_timestep_embedding

    embedded: Tensor = get_timestep_embedding(1000 * (scale.float() - 1), dim, flip_sin_to_cos=False,
                                              downscale_freq_shift=1)  # fmt: skip
    return embedded


@register("net")
@scaled(unet("UNet2DConditionModel"))
def stable_diffusion(
    size: int = 32,
    latent_channels: int = 4,
    block_out_channels: Sequence[int] = (32, 64, 96),
    layers_per_block: int = 1,
    mid_block: bool = True,
    attention_head_dim: int = 8,
    norm_num_groups: int = 8,
    words_dim: int = 768,
    pooled_dim: int = 1280,
    guidance_dim: int | None = None,
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
    num_train_timesteps: int = 1000,
    beta_schedule: str = "scaled_linear",
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["StableDiffusionPipeline", "StableDiffusionXLPipeline"] = "StableDiffusionPipeline",
) -> StableDiffusion:
    """A U-Net of latents that is told words, diffusers' UNet2DConditionModel, as Stable Diffusion's.

    Args:
        size: height and width of its latents, a multiple of 2 to the number of halvings.
        latent_channels: channels Z of its latents.
        block_out_channels: channels at full, half, quarter... resolution.
        layers_per_block: residual layers of a block on the way down; on the way up there is one more.
        mid_block: whether there is a block between the way down and the way up.
        attention_head_dim: heads of attention, at all levels but the coarsest, as diffusers calls their number.
        norm_num_groups: groups of its normalisation; divides all channels.
        words_dim: channels D of the words: 768 of CLIP's text encoder in Stable Diffusion 1, 1024 in 2, 2048 in XL.
        pooled_dim: channels P of the pooled words, which XL is told.
        guidance_dim: channels in which it is told the scale of guidance; none: it is not.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.
        num_train_timesteps: noise levels in its table.
        beta_schedule: the table: ``linear``, ``scaled_linear`` or ``squaredcos_cap_v2``.
        config: a whole configuration of a UNet2DConditionModel, which counts in place of the arguments up to there.
        scheduler: that of a scheduler with its ``_class_name``, in place of the three arguments on noise.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    if config is None:
        attend = [level < len(block_out_channels) - 1 for level in range(halved(size, len(block_out_channels)))]
        xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": SIZE_DIM,
              "projection_class_embeddings_input_dim": SIZES * SIZE_DIM + pooled_dim}  # fmt: skip
        config = {
            "sample_size": size, "in_channels": latent_channels, "out_channels": latent_channels,
            "block_out_channels": tuple(block_out_channels), "layers_per_block": layers_per_block,
            "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attend),
            "mid_block_type": "UNetMidBlock2DCrossAttn" if mid_block else None,
            "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
            "attention_head_dim": attention_head_dim, "norm_num_groups": norm_num_groups,
            "cross_attention_dim": words_dim, "time_cond_proj_dim": guidance_dim, **(xl if pipeline == XL else {}),
        }  # fmt: skip
    noise = scheduler or table_scheduler(prediction_type, num_train_timesteps, beta_schedule)
    return StableDiffusion.built(config, noise, pipeline)
