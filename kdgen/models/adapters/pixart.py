"""PixArtTransformer2DModel: a transformer of latents that is told words, Chen et al. 2023 (arXiv 2310.00426)."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.adapters.latent_scaling import transformer
from kdgen.models.adapters.latent_schedulers import table_scheduler
from kdgen.models.scaling import scaled
from kdgen.registry import register

ALPHA, SIGMA = "PixArtAlphaPipeline", "PixArtSigmaPipeline"
BASE = 128
"""Height and width of the latents of models that are told sizes unless their configuration says."""

REDUCTION = 8
"""How many times higher and wider pictures are than latents, where the model is told their size."""


@register("adapter", handle=(ALPHA, SIGMA))
class Pixart(LatentModel):
    """PixArt alpha and sigma: pipelines of diffusers around a PixArtTransformer2DModel, whose mean is used."""

    part = "transformer"
    inseparable = "PixArtTransformer2DModel"
    opens_lora = False
    text_parts = ("tokenizer", "text_encoder")
    encoded = ("words", "words_mask", "-words", "-words_mask")
    options: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Words as T5 reads them, 120 or 300, and which of them there are."""
        words = 300 if self.pipeline == SIGMA else 120
        return {"words": (words, self.model.config.caption_channels), "words_mask": (words,)}

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """What the model says, ``(B, Z, h, w)``, or with variances ``(B, 2Z, h, w)``."""
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.model.use_additional_conditions:
            height, width = REDUCTION * z.shape[-2], REDUCTION * z.shape[-1]
            added["resolution"] = torch.tensor([height, width]).to(z).expand(len(z), 2)
            added["aspect_ratio"] = torch.tensor([height / width]).to(z).expand(len(z), 1)
        out: Tensor = self.model(z, timestep=t, encoder_hidden_states=cond["words"],
                                 encoder_attention_mask=cond["words_mask"], added_cond_kwargs=added).sample  # fmt: skip
        return out


def _thirds(config: Mapping[str, Any]) -> int:
    """What heads are a multiple of where the model is told sizes, each in a third of its width."""
    told = config.get("use_additional_conditions")
    asked = config.get("sample_size") == BASE if told is None else told
    return 3 // math.gcd(3, config.get("attention_head_dim", 3)) if asked else 1


@register("net")
@scaled(transformer("PixArtTransformer2DModel", widths=("cross_attention_dim",), multiple=_thirds))
def pixart(
    size: int = 32,
    latent_channels: int = 4,
    patch: int = 2,
    depth: int = 4,
    heads: int = 4,
    head_dim: int = 16,
    words_dim: int = 4096,
    num_train_timesteps: int = 1000,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: Literal["PixArtAlphaPipeline", "PixArtSigmaPipeline"] = "PixArtAlphaPipeline",
) -> Pixart:
    """A transformer of latents that is told words, diffusers' PixArtTransformer2DModel.

    Args:
        size: height and width of its latents, a multiple of ``patch``.
        latent_channels: channels Z of its latents.
        patch: side of the squares of latents that it looks at.
        depth: blocks.
        heads: of attention.
        head_dim: channels of a head.
        words_dim: channels D of the words.
        num_train_timesteps: noise levels in its table, with linear betas.
        config: a whole configuration of a PixArtTransformer2DModel, which counts in place of the arguments up to there.
        scheduler: that of a scheduler with its ``_class_name``, in place of ``num_train_timesteps``.
        pipeline: the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    own = {"sample_size": size, "in_channels": latent_channels, "out_channels": latent_channels, "patch_size": patch,
           "num_layers": depth, "num_attention_heads": heads, "attention_head_dim": head_dim,
           "cross_attention_dim": heads * head_dim, "caption_channels": words_dim}  # fmt: skip
    noise = scheduler or table_scheduler("epsilon", num_train_timesteps, "linear")
    return Pixart.built(own if config is None else config, noise, pipeline)
