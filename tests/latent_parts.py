"""What tiny pipelines have beside their model: schedulers, autoencoders and what reads words, always the same."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

XL = "StableDiffusionXLPipeline"
OF_AUTOENCODER = ("Flux2Pipeline", "QwenImagePipeline")
"""Pipelines of which the autoencoder alone is opened."""

LETTERS = [chr(number) for number in range(97, 123)]


def scheduler(pipeline: str) -> Any:
    """One that such pipelines come with."""
    import diffusers as d

    if pipeline in ("StableDiffusion3Pipeline", "SanaPipeline"):
        return d.FlowMatchEulerDiscreteScheduler(shift=3.0)
    if pipeline in ("FluxPipeline", *OF_AUTOENCODER):
        return d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return d.DDIMScheduler(clip_sample=False, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def autoencoder(pipeline: str) -> Any:
    import diffusers as d

    torch.manual_seed(1)
    if pipeline == "SanaPipeline":
        blocks = ("ResBlock", "EfficientViTBlock")
        return d.AutoencoderDC(in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=blocks,
                               decoder_block_types=blocks, encoder_block_out_channels=(8, 8),
                               decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
                               decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1),
                               decoder_layers_per_block=[1, 1], downsample_block_type="conv",
                               upsample_block_type="interpolate", scaling_factor=0.4).eval()  # fmt: skip
    means = {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 0.5, 1.5]}
    if pipeline == "QwenImagePipeline":
        return d.AutoencoderKLQwenImage(base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1,
                                        temperal_downsample=[True], **means).eval()  # fmt: skip
    blocks: dict[str, Any] = {
        "block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2, "layers_per_block": 1,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4, "sample_size": 16,
    }  # fmt: skip
    if pipeline == "Flux2Pipeline":
        made = d.AutoencoderKLFlux2(latent_channels=4, **blocks).eval()
        nn.init.uniform_(made.bn.running_mean, -1, 1)
        nn.init.uniform_(made.bn.running_var, 0.5, 2)
        return made
    flow = {"scaling_factor": 1.5, "shift_factor": 0.06, "use_quant_conv": False, "use_post_quant_conv": False}
    more: dict[str, Any] = means if pipeline == XL else {}
    more = flow if pipeline in ("StableDiffusion3Pipeline", "FluxPipeline") else more
    latents = 16 if pipeline == "StableDiffusion3Pipeline" else 4
    return d.AutoencoderKL(latent_channels=latents, **blocks, **more).eval()


def _clip(projected: bool) -> dict[str, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    names = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    config = CLIPTextConfig(vocab_size=len(names), hidden_size=12, intermediate_size=16, num_hidden_layers=2,
                            num_attention_heads=2, projection_dim=12, bos_token_id=0, eos_token_id=1)  # fmt: skip
    torch.manual_seed(2)
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return {"tokenizer": CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77),
            "text_encoder": kind(config).eval()}  # fmt: skip


def _t5(width: int = 12) -> dict[str, Any]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((letter, -3.0) for letter in LETTERS)]
    config = T5Config(vocab_size=len(pieces), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    torch.manual_seed(3)
    return {"tokenizer": T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512),
            "text_encoder": T5EncoderModel(config).eval()}  # fmt: skip


def _gemma() -> dict[str, Any]:
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", *LETTERS]
    config = Gemma2Config(vocab_size=len(names), hidden_size=12, intermediate_size=16, num_hidden_layers=1,
                          num_attention_heads=2, num_key_value_heads=1, head_dim=6)  # fmt: skip
    torch.manual_seed(4)
    return {"tokenizer": GemmaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[]),
            "text_encoder": Gemma2Model(config).eval()}  # fmt: skip


def _second(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_2": part for name, part in parts.items()}


NO_WORDS: dict[str, tuple[str, ...]] = {
    "StableDiffusionPipeline": ("",), XL: ("", "_2"), "DiTPipeline": (), "PixArtAlphaPipeline": ("",),
    "PixArtSigmaPipeline": ("",), "StableDiffusion3Pipeline": ("", "_2", "_3"), "FluxPipeline": ("", "_2"),
    "SanaPipeline": ("",), "Flux2Pipeline": ("",), "QwenImagePipeline": ("",),
}  # fmt: skip


def text_readers(pipeline: str, *, words: bool) -> dict[str, Any]:
    """What reads the words of a pipeline, by the names of its parts; each is None where there shall be none."""
    readers: dict[str, Any] = {
        f"{part}{end}": None for end in NO_WORDS[pipeline] for part in ("tokenizer", "text_encoder")
    }
    if words:
        read: dict[str, Callable[[], dict[str, Any]]] = {
            "StableDiffusionPipeline": lambda: _clip(False),
            XL: lambda: {**_clip(False), **_second(_clip(True))},
            "DiTPipeline": dict,
            "PixArtAlphaPipeline": _t5, "PixArtSigmaPipeline": _t5,
            "StableDiffusion3Pipeline": lambda: {
                **_clip(True),
                **{f"{name}_{i}": part for i, read in ((2, _clip(True)), (3, _t5(24))) for name, part in read.items()},
            },
            "FluxPipeline": lambda: {**_clip(False), **_second(_t5())},
            "SanaPipeline": _gemma,
        }  # fmt: skip
        readers |= read[pipeline]()
    if pipeline == "StableDiffusionPipeline":
        readers |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if pipeline == XL:
        readers["force_zeros_for_empty_prompt"] = words
    return readers
