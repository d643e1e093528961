"""Stable Diffusion XL with random weights: steps that distil it, and what `kdgen plan` said that they take."""

import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from gpu.ledger import Absent, Item, Outcome, Setup
from kdgen import Recipe, distill, preset
from kdgen.models.adapters import stable_diffusion
from kdgen.models.weightless import bundled
from kdgen.recipe import override

XL = "stabilityai/stable-diffusion-xl-base-1.0"
STEPS, WARM = 6, 2
"""Steps of each row, and how many of them come before those that count."""
WITHIN = 0.15
"""Most that the memory planned may be off, of what is measured."""

SMALL: Mapping[str, Mapping[str, Any]] = {
    "unet": {"block_out_channels": [32, 32, 32], "transformer_layers_per_block": [1, 1, 1], "layers_per_block": 1,
             "attention_head_dim": 2, "sample_size": 8},
    "vae": {"block_out_channels": [32, 32], "layers_per_block": 1, "sample_size": 16,
            "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2},
}  # fmt: skip
"""What is smaller where it is to be quick."""

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DMD2: Mapping[str, Any] = {"name": "distribution_matching", "args": {"steps": 4, "sigma_data": 1.0}}
EVERY_SWITCH: Mapping[str, Any] = {"checkpointing": True, "optimizer_states": "int8", "weights": "bfloat16"}
"""Every switch of memory there is."""


def items(setup: Setup) -> Iterator[Item]:
    """The pipeline written down, then a row for each way to teach it few steps; plans are counted meanwhile."""
    folder, configured = setup.scratch / "xl", setup.scratch / "configuration"
    recipes = {name: recipe.model_copy(update={"device": setup.device}) for name, recipe in ways(setup, folder).items()}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as beside:
        configuration(configured, quick=setup.quick)
        plans = {name: beside.submit(planned, recipe.to_json(), str(folder), str(configured))
                 for name, recipe in recipes.items()}  # fmt: skip
        yield Item("the pipeline written", partial(written, configured, folder, setup.device))
        for name, recipe in recipes.items():
            run = setup.scratch / name.replace(" ", "-")
            yield Item(name, partial(taught, recipe, run, plans[name]), needs=2.0 if setup.quick else 40.0)
        beside.shutdown(cancel_futures=True)


def ways(setup: Setup, folder: Path) -> dict[str, Recipe]:
    """The preset for XL with the folder for its teacher, as it is and by DMD2; the whole net by DMD2 too."""
    shipped = preset("sdxl_lora_4").to_json().replace(f"hub:{XL}", str(folder))
    lora = override(Recipe.model_validate_json(shipped), (
        "task.args.num_latents=8", "task.args.num_steps=1", "task.args.num_images=2", "task.args.steps=[1]",
        "task.args.picture=32", "evaluate_every=null", "checkpoint_every=1e6", f"steps={STEPS}",
        *(["batch_size=2"] if setup.quick else []),
    ))  # fmt: skip
    scores = override(lora, (f"stages.0.methods={json.dumps([DMD2])}",))
    critics = override(scores, ("stages.0.methods.0.args.critic=student",))
    scheduler = {"_class_name": "LCMScheduler", **BETAS}
    net = {"name": "stable_diffusion", "args": {"config": model_config(setup.quick), "pipeline": stable_diffusion.XL,
                                                "scheduler": scheduler}}  # fmt: skip
    whole = override(scores, (f"student={json.dumps(net)}", "init=teacher", f"memory={json.dumps(EVERY_SWITCH)}",
                               "batch_size=2"))  # fmt: skip
    return {"LoRA": lora, "LoRA by DMD2": critics, "the whole net by DMD2": whole}


def model_config(quick: bool) -> dict[str, Any]:
    """The configuration of its U-Net."""
    config = json.loads((bundled()[XL] / "unet" / "config.json").read_text())
    return {**config, **(SMALL["unet"] if quick else {})}


def configuration(folder: Path, *, quick: bool) -> None:
    """A copy of the configuration that kdgen brings along, its nets small where it is to be quick."""
    shutil.copytree(bundled()[XL], folder)
    for part, changes in SMALL.items() if quick else ():
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def written(configured: Path, folder: Path, device: str) -> Outcome:
    """A pipeline with random weights in half precision, its readers of words shallow, in a folder."""
    import diffusers as d
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(code) for code in range(ord("!"), ord("~"))]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77)

    def reader(kind: Any, width: int) -> Any:
        return kind(CLIPTextConfig(vocab_size=len(names), hidden_size=width, intermediate_size=64, num_hidden_layers=2,
                                   num_attention_heads=8, projection_dim=1280, bos_token_id=0,
                                   eos_token_id=1))  # fmt: skip

    with torch.device(device):
        unet = d.UNet2DConditionModel.from_config(d.UNet2DConditionModel.load_config(configured / "unet"))
        vae = d.AutoencoderKL.from_config(d.AutoencoderKL.load_config(configured / "vae"))
    pipe = d.StableDiffusionXLPipeline(
        vae=vae, unet=unet, scheduler=d.EulerDiscreteScheduler.from_pretrained(configured / "scheduler"),
        tokenizer=tokenizer, tokenizer_2=tokenizer, text_encoder=reader(CLIPTextModel, 768),
        text_encoder_2=reader(CLIPTextModelWithProjection, 1280),
    )  # fmt: skip
    pipe.to(torch.float16).save_pretrained(folder)
    return Outcome(figures={"parameters of the U-Net": sum(p.numel() for p in unet.parameters())})


def planned(recipe: str, folder: str, configured: str) -> dict[str, float]:
    """What `kdgen plan` says by configurations alone, in GiB, and the seconds that it takes to say it."""
    import kdgen.training.registered  # noqa: F401
    from kdgen.training.footprint import footprint

    began = time.perf_counter()
    found = footprint(Recipe.model_validate_json(recipe.replace(folder, f"hub:{XL}")), {XL: Path(configured)})
    sizes = {f"{name} planned GiB": size / 2**30 for name, size in found.model_dump().items() if size}
    return {**sizes, "planned GiB": found.total / 2**30, "s to plan": time.perf_counter() - began}


def taught(recipe: Recipe, run: Path, plan: "Future[dict[str, float]]") -> Outcome:
    """Some steps of a run, how long each took and the most memory that it held, beside the plan."""
    if recipe.memory.optimizer_states == "int8" and find_spec("torchao") is None:
        raise Absent("torchao is not installed")
    on_gpu, seconds, peaks, began = recipe.device == "cuda", list[float](), list[float](), 0.0
    for event in distill(recipe, run):
        if event.kind not in ("start", "step", "phase"):
            continue
        if on_gpu:
            torch.cuda.synchronize()
            peaks.append(torch.cuda.max_memory_allocated() / 2**30)
            torch.cuda.reset_peak_memory_stats()
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        if event.kind == "phase":
            break
    figures = {"s a step": statistics.median(seconds[WARM:-1]), **plan.result()}
    if not on_gpu:
        return Outcome(figures=figures)
    peak = max(peaks[WARM:-1])
    off = abs(figures["planned GiB"] / peak - 1)
    return Outcome(figures={"GiB": peak, **figures}, apart={"planned of measured": (off, WITHIN)})
