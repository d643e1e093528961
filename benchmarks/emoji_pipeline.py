"""The parts of the bundled text-to-image teacher, from the images that `benchmarks/emoji.py` writes.

    python benchmarks/emoji_pipeline.py parts emoji-captioned emoji-parts
    kdgen distill emoji-teacher
    python benchmarks/emoji_pipeline.py decoder emoji-captioned emoji-parts
    python benchmarks/emoji_pipeline.py pack runs/emoji emoji
    python benchmarks/emoji_pipeline.py sheet emoji benchmarks/emoji.webp 1

`parts` trains an autoencoder, and a tokenizer and a text encoder by telling captions by their pictures (Radford et al.
2021, arXiv 2103.00020), and writes a pipeline of plain diffusers around them whose U-Net is not trained. The preset
trains that; meanwhile or before, `decoder` trains the second half of the autoencoder on. `pack` copies the run's
student, `sheet` draws what is common, and words together that no caption has together.
"""

import json
import math
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import kdgen
from kdgen.data import Captioned, generator
from kdgen.models.adapters.stable_diffusion import stable_diffusion
from kdgen.presets.teachers import EMOJI_UNET, untaught
from kdgen.recipe import Stage, Term
from kdgen.registry import Spec
from kdgen.utils.convert import sheet, to_pictures

SIDE, WORDS, TOKENS, VOCABULARY = 32, 96, 16, 2000
STEPS, BATCH, SHARPNESS = 300, 128, 20

COMMON = ("red heart", "cat face", "pizza", "blue circle", "grinning face", "dog face", "sunflower", "hamburger")
UNSEEN = ("orange heart", "green circle", "purple star", "purple book", "blue apple", "blue pizza", "yellow automobile",
          "blue cat face", "pink dog face", "red frog face", "green bear face", "crying cat face")  # fmt: skip
"""Each of words that no caption has together, see `HELD_OUT` in `benchmarks/emoji.py`."""


def train_vae(images: Path, run: Path, seconds: float) -> Any:
    """AutoencoderKL of 32x32 pixels to 4x8x8 latents, whose standard deviation its ``scaling_factor`` makes 1."""
    from diffusers import AutoencoderKL

    source: Any = {"name": "folder", "args": {"path": str(images.absolute()), "whole": True, "jitter": {"flip": 0.5}}}
    args: Any = {"channels": 3, "block_out_channels": [8, 24, 64], "mid_block_attention": False, "norm_num_groups": 4}
    recipe = untaught(
        name="emoji-vae",
        task=Spec(name="autoencode", args={"images": source, "channels": 3, "loss": "l1"}),
        student=Spec(name="autoencoder_kl", args=args),
        stages=(Stage(name="train", objectives=(Term(name="kl", weight=1e-3),), optimizer="muon", lr=3e-3),),
        seconds=seconds, batch_size=8, evaluate_every=None,
    )  # fmt: skip
    if not (run / "student").is_dir():
        for event in kdgen.distill(recipe, run):
            print(event.kind, event.step, dict(event.data), flush=True)
    vae = AutoencoderKL.from_pretrained(run / "student" / "vae")
    with torch.no_grad():
        latents = vae.encode(pictures(Captioned(str(images)))).latent_dist.mode()
    vae.register_to_config(scaling_factor=1 / latents.std().item())
    return vae


def train_decoder(images: Path, parts: Path, seconds: float = 1500) -> None:
    """Train the decoder of a pipeline on, in place: the encoder, and so the latents, stay as they are."""
    from diffusers import AutoencoderKL

    vae, x = AutoencoderKL.from_pretrained(parts / "vae"), pictures(Captioned(str(images)))
    x = torch.cat([x, x.flip(-1)])
    with torch.no_grad():
        moments = torch.cat([vae.encode(part).latent_dist.parameters for part in x.split(BATCH)])
    means, deviations = moments.chunk(2, 1)[0], (moments.chunk(2, 1)[1] / 2).exp()
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer, random = torch.optim.AdamW(learning, weight_decay=0.0), generator(0, "decoder")
    begin, step = time.monotonic(), 0
    while (spent := (time.monotonic() - begin) / seconds) < 1:
        index = torch.randint(len(x), (32,), generator=random)
        z = means[index] + deviations[index] * torch.randn(means[index].shape, generator=random)
        apart = vae.decode(z).sample - x[index]
        loss = apart.abs().mean() + apart.diff(dim=-1).abs().mean() + apart.diff(dim=-2).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * min(step / 50, 1) * (1 + math.cos(math.pi * spent)) / 2
        optimizer.step()
        if step % 50 == 0:
            print(f"decoder, step {step}: off by {apart.abs().mean():.4f}", flush=True)
        step += 1
    vae.save_pretrained(parts / "vae")


def pictures(source: Captioned) -> Tensor:
    """All of a source, ``(N, 3, 32, 32)``."""
    return torch.cat(list(source.whole_pictures(SIDE, channels=3)))


def tokenizer_of(captions: list[str]) -> Any:
    """A CLIPTokenizer whose pairs of bytes are joined as the captions have them."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    bare = CLIPTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=TOKENS)
    return bare.train_new_from_iterator(captions, vocab_size=VOCABULARY)


def train_words(source: Captioned) -> tuple[Any, Any]:
    """A tokenizer, and a text encoder that tells which caption of a batch belongs to which picture."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer, x = tokenizer_of(source.captions), pictures(source)
    ids = torch.tensor(tokenizer(source.captions, padding="max_length", truncation=True).input_ids)
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WORDS, intermediate_size=2 * WORDS, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS, projection_dim=WORDS, pad_token_id=end,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=end,
    ))  # fmt: skip
    for name, weight in encoder.named_parameters():
        if "embedding" in name:
            nn.init.normal_(weight, std=0.3)
    widths = (3, 24, 48, 96)
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.GELU()) for a, b in pairwise(widths)]
    eye = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * (SIDE // 8) ** 2, WORDS))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *eye.parameters()], lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.1)
    target, random = torch.arange(BATCH), generator(0, "captions")
    for step in range(STEPS):
        index = torch.randperm(len(x), generator=random)[:BATCH]
        longest = int((ids[index] != end).sum(1).max()) + 1
        said = F.normalize(encoder(input_ids=ids[index, :longest]).pooler_output, dim=-1)
        alike = SHARPNESS * said @ F.normalize(eye(x[index]), dim=-1).T
        loss = (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"words, step {step}: {(alike.argmax(1) == target).float().mean():.3f} told apart", flush=True)
    return tokenizer, encoder.eval()


def write_parts(images: Path, out: Path, seconds: float = 900) -> None:
    """Write the pipeline."""
    from diffusers import StableDiffusionPipeline

    source = Captioned(str(images))
    vae = train_vae(images, out.with_name(f"{out.name}-vae"), seconds)
    tokenizer, encoder = train_words(source)
    net = stable_diffusion(**EMOJI_UNET)
    StableDiffusionPipeline(
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=net.model, scheduler=net.scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(out)  # fmt: skip


def pack(run: Path, out: Path) -> None:
    """Copy the student of a run, U-Net and autoencoder in half precision, as the bundled models lie."""
    shutil.copytree(run / "student", out)
    for file in out.glob("*/diffusion_pytorch_model.safetensors"):
        save_file({name: weight.half() for name, weight in load_file(file).items()}, file, {"format": "pt"})
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size:,} bytes")


def draw_sheet(model: str, out: Path, seeds: int = 4, num_steps: int = 50, guidance: float = 5.0) -> None:
    """Draw each prompt a few times, a column each: common ones, then unseen ones."""
    drawn = kdgen.load(model)
    prompts = [*COMMON, *UNSEEN]
    rows = [drawn.draw(len(prompts), seed=seed, num_steps=num_steps, prompt=prompts, guidance=guidance)
            for seed in range(seeds)]  # fmt: skip
    page = sheet(to_pictures(torch.cat(rows)), columns=len(prompts))
    page.resize((2 * page.width, 2 * page.height), 0).save(out)
    print(json.dumps(prompts))


if __name__ == "__main__":
    commands: dict[str, Any] = {"parts": write_parts, "decoder": train_decoder, "pack": pack, "sheet": draw_sheet}
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    first: Any = sys.argv[2] if sys.argv[1] == "sheet" else Path(sys.argv[2])
    commands[sys.argv[1]](first, Path(sys.argv[3]), *map(int, sys.argv[4:]))
