"""Tiny text-to-image and class-conditional pipelines, made by plain diffusers, with what reads words or without."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from latent_parts import XL, autoencoder, scheduler, text_readers
from torch import Tensor, nn

from kdgen import registry
from kdgen.diffusion.prediction import append_dims, flow_sigma, from_denoised, scale_in
from kdgen.models.adapters.flux import packed, unpacked
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.registry import Spec

WORDS = pytest.mark.skipif(
    find_spec("transformers") is None,
    reason="without transformers plain diffusers has no pipelines of words: pip install 'kdgen[text]'",
)
TIMM = pytest.mark.skipif(find_spec("timm") is None, reason="no timm here: pip install 'kdgen[timm]'")
LORA = pytest.mark.skipif(find_spec("peft") is None, reason="without peft no LoRA is made: pip install 'kdgen[lora]'")
OPTIONAL = {"lora": LORA, "timm": TIMM}
"""Nets that need a library which is not always there."""

FAMILIES = {
    "StableDiffusionPipeline": "stable_diffusion",
    XL: "stable_diffusion",
    "DiTPipeline": "dit",
    "PixArtAlphaPipeline": "pixart",
    "PixArtSigmaPipeline": "pixart",
    "StableDiffusion3Pipeline": "stable_diffusion3",
    "FluxPipeline": "flux",
    "SanaPipeline": "sana",
}
"""Every pipeline that is opened, and the adapter that does."""

PIPELINES = [name if name == "DiTPipeline" else pytest.param(name, marks=WORDS) for name in FAMILIES]
OF_WORDS = [pytest.param(name, marks=WORDS) for name in FAMILIES if name != "DiTPipeline"]


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    attend, plain = "CrossAttn{}Block2D", "{}Block2D"
    kinds = (plain, attend) if more else (attend, plain)
    return UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16),
                                layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
                                down_block_types=tuple(each.format("Down") for each in kinds),
                                up_block_types=tuple(each.format("Up") for each in reversed(kinds)),
                                **{"cross_attention_dim": 12, **more})  # fmt: skip


def model(pipeline: str, **more: Any) -> Any:
    """The model of a pipeline; none of its weights are zero."""
    import diffusers as d

    attention: dict[str, Any] = {"attention_head_dim": 4, "num_attention_heads": 2}
    pixart = {**attention, "num_layers": 2, "in_channels": 4, "out_channels": 8, "cross_attention_dim": 8,
              "caption_channels": 12, "sample_size": 8, "use_additional_conditions": False}  # fmt: skip
    make: dict[str, Callable[..., Any]] = {
        "StableDiffusionPipeline": _unet,
        XL: lambda: _unet(cross_attention_dim=24, addition_embed_type="text_time", addition_time_embed_dim=8,
                          projection_class_embeddings_input_dim=6 * 8 + 12),
        "DiTPipeline": lambda **given: d.DiTTransformer2DModel(
            **{**attention, "sample_size": 8, "num_layers": 2, "in_channels": 4, "out_channels": 8, **given}),
        "PixArtAlphaPipeline": lambda **given: d.PixArtTransformer2DModel(**{**pixart, **given}),
        "PixArtSigmaPipeline": lambda **given: d.PixArtTransformer2DModel(**{**pixart, **given}),
        "StableDiffusion3Pipeline": lambda: d.SD3Transformer2DModel(
            **attention, sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2,
            joint_attention_dim=24, caption_projection_dim=8, pooled_projection_dim=24, pos_embed_max_size=8),
        "FluxPipeline": lambda guidance_embeds=True: d.FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=12, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds),
        "SanaPipeline": lambda: d.SanaTransformer2DModel(
            **attention, patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_cross_attention_heads=2,
            cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=12, sample_size=16),
        "Flux2Pipeline": lambda: d.Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=12, axes_dims_rope=(4, 4, 4, 4)),
        "QwenImagePipeline": lambda: d.QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=12, axes_dims_rope=(4, 6, 6)),
    }  # fmt: skip
    torch.manual_seed(0)
    made = make[pipeline](**more)
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return made.eval()


def used(pipeline: str, **config: Any) -> Spec:
    """The net of a pipeline with changes to the configuration of its model."""
    own = {key: value for key, value in model(pipeline).config.items() if not key.startswith("_")}
    noise = scheduler(pipeline)
    told = {"scheduler": {"_class_name": type(noise).__name__, **noise.config}, "pipeline": pipeline}
    size = {"size": 8} if pipeline == "FluxPipeline" else {}
    args = json.loads(json.dumps({"config": {**own, **config}, **told, **size}))
    return Spec(name=FAMILIES[pipeline], args=args)


def adapted(pipeline: str, seed: int = 0, **config: Any) -> LatentModel:
    """That net; none of its weights are zero."""
    made: LatentModel = registry.build("net", used(pipeline, **config))
    torch.manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def whole(pipeline: str, *, words: bool = True, **parts: Any) -> Any:
    """A pipeline of plain diffusers, with tiny text encoders or none."""
    import diffusers

    readers = text_readers(pipeline, words=words)
    part = "unet" if "StableDiffusion" in pipeline and "3" not in pipeline else "transformer"
    own = {part: model(pipeline), "vae": autoencoder(pipeline), "scheduler": scheduler(pipeline)}
    made = getattr(diffusers, pipeline)(**{**own, **readers, **parts})
    made.set_progress_bar_config(disable=True)
    return made


@cache
def saved(pipeline: str) -> Path:
    """The folder of a pipeline, told what it is by tensors alone, that lasts as long as the tests; nobody writes to it."""
    folder = Path(os.environ["HF_HOME"]) / "pipelines" / pipeline
    whole(pipeline, words=False).save_pretrained(folder)
    return folder


def reopened(pipeline: str, folder: Path) -> Any:
    """What plain diffusers makes of a folder; parts that the index leaves out are none."""
    import diffusers

    index = json.loads((folder / "model_index.json").read_text())
    none = [name for name, value in index.items() if isinstance(value, list) and value[0] is None]
    made = getattr(diffusers, pipeline).from_pretrained(folder, **dict.fromkeys(none))
    made.set_progress_bar_config(disable=True)
    return made


def told(pipeline: str) -> dict[str, Any]:
    """What a pipeline is told of two pictures, words as tensors."""

    def noise(*shape: int, seed: int) -> Tensor:
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))

    size = {"height": 16, "width": 16}
    both = {"prompt_embeds": noise(5, 12, seed=0), "negative_prompt_embeds": noise(5, 12, seed=1)}
    mask = torch.ones(2, 5)
    mask[1, 3:] = 0
    masked = {**both, "prompt_attention_mask": mask, "negative_prompt_attention_mask": mask, "negative_prompt": None,
              "use_resolution_binning": False}  # fmt: skip
    pooled = {"pooled_prompt_embeds": noise(12, seed=2), "negative_pooled_prompt_embeds": noise(12, seed=3)}
    wide = {key: torch.cat([value, value.flip(0)], -1) for key, value in both.items()}
    return {
        "StableDiffusionPipeline": {**size, **both},
        XL: {**size, **wide, **pooled},
        "DiTPipeline": {"class_labels": [1, 7]},
        "PixArtAlphaPipeline": {**size, **masked},
        "PixArtSigmaPipeline": {**size, **masked},
        "StableDiffusion3Pipeline": {**size, **wide,
                                     **{key: torch.cat([value, value], -1) for key, value in pooled.items()}},
        "FluxPipeline": {**size, "prompt_embeds": both["prompt_embeds"],
                         "pooled_prompt_embeds": pooled["pooled_prompt_embeds"]},
        "SanaPipeline": {**masked, "height": 32, "width": 32},
        "Flux2Pipeline": {**size, "prompt_embeds": both["prompt_embeds"]},
        "QwenImagePipeline": {**size, "prompt_embeds": both["prompt_embeds"],
                              "prompt_embeds_mask": torch.ones(2, 5, dtype=torch.long)},
    }[pipeline]  # fmt: skip


def read(
    pipeline: str, net: LatentModel, args: tuple[Any, ...], given: Mapping[str, Any]
) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """Latents, timestep and conditions of a pipeline's call of its model, by the names of kdgen."""
    z = given.get("hidden_states", args[0] if args else None)
    t = given.get("timestep", args[1] if len(args) > 1 else None)
    added = given.get("added_cond_kwargs") or {}
    found = {
        "words": given.get("encoder_hidden_states"), "words_mask": given.get("encoder_attention_mask"),
        "pooled": given.get("pooled_projections", added.get("text_embeds")), "sizes": added.get("time_ids"),
        "label": given.get("class_labels"), "guidance": given.get("guidance"),
    }  # fmt: skip
    if pipeline == "SanaPipeline":
        t = t / net.model.config.timestep_scale
    return z, 1000 * t if pipeline == "FluxPipeline" else t, {k: v for k, v in found.items() if v is not None}


@contextmanager
def through(pipeline: str, net: LatentModel) -> Iterator[None]:
    """While open, a model answers its pipeline with what its adapter says of the noise, by way of denoised latents."""
    model = net.model
    forward, side, inside = model.forward, net.size // 2, False

    def answer(*args: Any, **given: Any) -> Any:
        nonlocal inside
        if inside:
            return forward(*args, **given)
        z, t, cond = read(pipeline, net, args, given)
        z = unpacked(z, side, side) if pipeline == "FluxPipeline" else z
        t = torch.as_tensor(t).double().expand(len(z))
        sigma = (
            flow_sigma((t / 1000).clamp(max=1 - 1e-6)) if net.timesteps is None else net.timesteps.sigma(t)
        ).float()
        x = z / append_dims(scale_in(net.predicts, sigma), z)
        inside = True
        try:
            denoised = net(x, sigma=sigma, **cond)
        finally:
            inside = False
        out = from_denoised(net.predicts, denoised, x, sigma)
        if model.config.out_channels == 2 * z.shape[1]:
            out = torch.cat([out, torch.zeros_like(out)], 1)
        out = packed(out) if pipeline == "FluxPipeline" else out
        return type("Output", (), {"sample": out}) if given.get("return_dict", True) else (out,)

    model.forward = answer
    try:
        yield
    finally:
        model.forward = forward


def own_generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drawn(pipe: Any, num_steps: int = 4, **more: Any) -> Tensor:
    """Two pictures of a pipeline, guided, always of the same noise, ``(2, H, W, 3)``."""
    call = {**told(type(pipe).__name__), "num_inference_steps": num_steps, "guidance_scale": 3.0, "output_type": "np"}
    torch.manual_seed(0)  # some schedulers draw without the generators
    return torch.from_numpy(pipe(**{**call, **more}, generator=own_generators(1, 2)).images)
