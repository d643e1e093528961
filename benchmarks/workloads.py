"""The distillations that the benchmarks measure, each a recipe and its teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from denoiser import teacher_in
from torch import nn

from kdgen import Recipe, load
from kdgen.models.model import build_net
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.registry import Spec

PHOTOGRAPHS = {"name": "photographs"}
"""Five photographs that scikit-image carries: real images on every machine, and cheap to cut patches from."""

OUTPUT = Guidance(name="output", args={"loss": "l1"})
PAIRS = [["2", "3"], ["6", "27"], ["10", "45"]]
"""Layers of the small denoiser and of the large one whose features are compared: before ReLUs, at like depths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A distillation that every contender does in the same way.

    Attributes:
        name: in tables.
        recipe: the whole of it: the nets, the losses, the batch, AdamW at a constant rate.
        teacher: a net called as ``net(x, **cond)``.
        steps: in one round.
    """

    name: str
    recipe: Recipe
    teacher: nn.Module
    steps: int


def _recipe(name: str, task: Spec, student: Spec, terms: tuple[Guidance, ...], batch_size: int, lr: float) -> Recipe:
    stage = Stage(methods=terms, lr=lr, warmup=0, decay="none", clip=0)
    return Recipe(
        name=name, task=task, teacher=name, student=student, stages=(stage,), steps=1, batch_size=batch_size, ema=0.0,
        cache=CacheSpec(inputs=0), controls=False, evaluate_every=None, checkpoint_every=1e9, device="cpu",
    )  # fmt: skip


def denoiser(*terms: Guidance, width: int = 24, patch: int = 48, batch_size: int = 16) -> Recipe:
    """A 17-layer DnCNN into one of 7 layers on photographs under noise of sigma 25."""
    task = Spec(name="denoise", args={"sigma": 25, "patch": patch, "images": PHOTOGRAPHS})
    student = Spec(name="dncnn", args={"depth": 7, "width": width})
    return _recipe("denoiser", task, student, terms or (OUTPUT,), batch_size, 2e-3)


def denoising_teacher(data: Path | None) -> nn.Module:
    """The published DnCNN-S for sigma 25 where it is at hand, or a net of the same shape with weights by chance."""
    if data is not None:
        return load(teacher_in(data)).net.eval()
    torch.manual_seed(0)
    net, _ = build_net(Spec(name="dncnn", args={"depth": 17, "width": 64, "norm": True, "bias": False}), 1)
    return net.eval()


def workloads(data: Path | None = None) -> Mapping[str, Workload]:
    """All of them by a short name.

    Args:
        data: the folder with the published denoiser, see benchmarks/README.md.
    """
    big = denoising_teacher(data)
    within = "" if data is None else "net."  # the declared checkpoint lies in a net that converts its ranges
    features = Guidance(name="feature", args={"pairs": [[ours, f"{within}{theirs}"] for ours, theirs in PAIRS]})
    diffuse = Spec(name="diffuse", args={"images": PHOTOGRAPHS, "channels": 1, "size": 32})
    unet = Spec(name="unet2d", args={"block_out_channels": [8, 16, 24, 32]})
    generate = Spec(name="generate", args={"latent": 64, "channels": 1, "size": 32})
    generator = Spec(name="conv_generator", args={"latent": 64, "width": 10})
    diffusion = _recipe("diffusion", diffuse, unet, (Guidance(name="output"),), 32, 1e-3)
    gan = _recipe("gan", generate, generator, (OUTPUT,), 32, 2e-3)
    return {
        "denoiser": Workload(name="denoiser, output", recipe=denoiser(), teacher=big, steps=14),
        "features": Workload(
            name="denoiser, output + features", recipe=denoiser(OUTPUT, features), teacher=big, steps=14
        ),
        "diffusion": Workload(name="diffusion U-Net", recipe=diffusion, teacher=load("diffusion").net.eval(), steps=30),
        "gan": Workload(name="GAN generator", recipe=gan, teacher=load("gan").net.eval(), steps=100),
    }
