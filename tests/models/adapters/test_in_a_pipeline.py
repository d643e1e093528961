"""Students of autoencoders in the place of their teacher, in pipelines of plain diffusers: ``pipe.vae = student``."""

from itertools import islice
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import torch.nn.functional as F
from latent_parts import OF_AUTOENCODER, XL, autoencoder
from latent_pipelines import WORDS, drawn, own_generators, told, whole
from support import trained
from torch import Tensor, nn

from kdgen.models.abilities import Autoencoder
from kdgen.models.adapters.flux import unpacked
from kdgen.models.model import load
from kdgen.recipe import parse
from kdgen.registry import Spec, build
from kdgen.training import run
from kdgen.types import UserError

LEVELS = {"block_out_channels": [8, 8], "norm_num_groups": 4}
TINY: dict[str, Any] = {
    "name": "autoencoder_tiny",
    "args": {"width": 8, "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]},
}
KL = {"name": "autoencoder_kl", "args": LEVELS}
DC = {"name": "autoencoder_dc", "args": {"latent_channels": 4, "widths": [8, 8], "head_dim": 2}}
QWEN = {"name": "autoencoder_kl_qwen_image", "args": {"latent_channels": 4, "width": 8, "multiples": [1, 1]}}
FLUX2 = {"name": "autoencoder_kl_flux2", "args": {"latent_channels": 4, **LEVELS}}
STUDENTS: list[Any] = [
    ("StableDiffusionPipeline", TINY, "decode", diffusers.AutoencoderTiny),
    ("QwenImagePipeline", QWEN, "autoencode", diffusers.AutoencoderKLQwenImage),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (
        ("StableDiffusionPipeline", KL, "autoencode", diffusers.AutoencoderKL),
        (XL, KL, "decode", diffusers.AutoencoderKL),
        (XL, TINY, "autoencode", diffusers.AutoencoderTiny),
        ("StableDiffusion3Pipeline", {**KL, "args": {**LEVELS, "latent_channels": 16}}, "decode",
         diffusers.AutoencoderKL),
        ("FluxPipeline", TINY, "decode", diffusers.AutoencoderTiny),
        ("FluxPipeline", KL, "autoencode", diffusers.AutoencoderKL),
        ("SanaPipeline", DC, "decode", diffusers.AutoencoderDC),
        ("SanaPipeline", TINY, "autoencode", diffusers.AutoencoderTiny),
        ("QwenImagePipeline", QWEN, "decode", diffusers.AutoencoderKLQwenImage),
        ("Flux2Pipeline", FLUX2, "decode", diffusers.AutoencoderKLFlux2),
        ("Flux2Pipeline", FLUX2, "autoencode", diffusers.AutoencoderKLFlux2),
    )),
]  # fmt: skip
"""A pipeline, a student of its autoencoder, its task, and what plain diffusers opens it by."""

KEPT: list[Any] = [
    ("FluxPipeline", KL, "autoencode"),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (
        (XL, KL, "decode"), ("SanaPipeline", DC, "autoencode"), ("QwenImagePipeline", QWEN, "decode"),
        ("Flux2Pipeline", FLUX2, "autoencode"), ("Flux2Pipeline", FLUX2, "decode"),
    )),
]  # fmt: skip
"""Pipelines, and students as large as their autoencoders."""


def distilled(folder: Path, student: dict[str, Any], task: str = "autoencode", **settings: Any) -> Path:
    """The student of three steps, or as the settings say, of the teacher in a folder beside."""
    teacher = str(folder / "teacher")
    args = {"images": {"name": "photographs"}, "patch": 16, "num_images": 2}
    recipe = {
        "name": "small",
        "task": {"name": task, "args": {**args, **({"encoder": teacher} if task == "decode" else {})}},
        "teacher": f"{teacher}#decoder" if task == "decode" else teacher,
        "student": student,
        "stages": [{"methods": [{"name": "output"}], "lr": 1e-2}],
        "steps": 3, "batch_size": 2, "cache": {"inputs": 0}, "controls": False, "device": "cpu",
        "precision": "float32", "ema": 0, "evaluate_every": 100, **settings,
    }  # fmt: skip
    trained(run.distill(parse(recipe), folder / "run"))
    return folder / "run" / "student"


def learnt(pipe: Any) -> Tensor:
    """The latents that a pipeline's model draws, ``(2, Z, h, w)``, in the form in which it learns them."""
    name = type(pipe).__name__
    call = {**told(name), "num_inference_steps": 1, "guidance_scale": 3.0, "output_type": "latent"}
    latents = torch.as_tensor(pipe(**call, generator=own_generators(1, 2)).images)
    if name == "Flux2Pipeline":
        side = round(latents.shape[1] ** 0.5)
        return F.pixel_shuffle(latents.movedim(1, 2).unflatten(2, (side, side)), 2)
    return unpacked(latents, 4, 4) if latents.dim() == 3 else latents


def shown(net: nn.Module, latents: Tensor) -> Tensor:
    """What a net of kdgen decodes, as pipelines show it, ``(B, H, W, 3)``."""
    assert isinstance(net, Autoencoder)
    with torch.no_grad():
        return (net.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1)


@WORDS
@pytest.mark.parametrize("pipeline", ["StableDiffusionPipeline", XL, "StableDiffusion3Pipeline", "FluxPipeline",
                                      "SanaPipeline", *OF_AUTOENCODER])  # fmt: skip
def test_latents_are_those_that_the_pipelines_model_learns(pipeline: str, tmp_path: Path) -> None:
    pipe = whole(pipeline, words=False)
    pipe.vae.save_pretrained(tmp_path)
    net = load(tmp_path).net
    assert isinstance(net, Autoencoder)
    latents, images = learnt(pipe), drawn(pipe, num_steps=1)
    torch.testing.assert_close(shown(net, latents), images, atol=1e-4, rtol=0)
    with torch.no_grad():
        z = net.encode(images.movedim(-1, 1) * 2 - 1)[:, : net.latent_channels]
        torch.testing.assert_close(net.decode(z), net(images.movedim(-1, 1) * 2 - 1))


@WORDS
@pytest.mark.parametrize(("pipeline", "student", "task", "plain"), STUDENTS)
def test_a_student_draws_in_a_plain_pipeline_what_it_decodes(
    pipeline: str, student: dict[str, Any], task: str, plain: Any, tmp_path: Path
) -> None:
    pipe = whole(pipeline, words=False)
    pipe.vae.save_pretrained(tmp_path / "teacher")
    latents, by_teacher = learnt(pipe), drawn(pipe, num_steps=1)
    folder = distilled(tmp_path, student, task)
    pipe.vae = plain.from_pretrained(folder, subfolder="vae")
    made = load(folder)
    net = made.net.net if task == "decode" else made.net
    assert isinstance(net, nn.Module)
    images = drawn(pipe, num_steps=1)
    torch.testing.assert_close(shown(net, latents), images, atol=1e-4, rtol=0)
    assert images.std() > 0.01
    assert not torch.allclose(images, by_teacher, atol=1e-2)
    if task == "decode":
        assert not any(weight.any() for weight in pipe.vae.encoder.parameters())
        with torch.no_grad():
            torch.testing.assert_close(shown(net, latents), (made.net(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1))
    made.save(tmp_path / "again")
    pipe.vae = plain.from_pretrained(tmp_path / "again", subfolder="vae")
    assert torch.equal(drawn(pipe, num_steps=1), images)


@WORDS
@pytest.mark.parametrize(("pipeline", "student", "task"), KEPT)
def test_a_student_with_its_teachers_weights_draws_as_it_does(
    pipeline: str, student: dict[str, Any], task: str, tmp_path: Path
) -> None:
    pipe = whole(pipeline, words=False)
    pipe.vae.save_pretrained(tmp_path / "teacher")
    by_teacher = drawn(pipe, num_steps=1)
    still = [{"methods": [{"name": "output"}], "lr": 1e-9}]
    folder = distilled(tmp_path, student, task, init="teacher", steps=1, stages=still)
    pipe.vae = type(pipe.vae).from_pretrained(folder, subfolder="vae")
    torch.testing.assert_close(drawn(pipe, num_steps=1), by_teacher, atol=1e-4, rtol=0)


def test_a_student_of_its_teachers_class_scales_as_it_does_and_a_tiny_one_not_at_all(tmp_path: Path) -> None:
    """Latents of Stable Diffusion are about five times as large before they are scaled: beyond what TAESD's read."""
    autoencoder(XL).save_pretrained(tmp_path)
    teacher: Any = load(tmp_path).net
    for use, scales in ((KL, (0.18215, [0.1, 0.2, 0.3, 0.4])), (TINY, (1.0, None))):
        net: Any = build("net", Spec.model_validate(use), channels=3)
        net.adopt(teacher)
        net.save_files(tmp_path)
        again: Any = build("net", Spec.model_validate(use), channels=3)
        again.load_files(tmp_path)
        for each in (net, again):
            assert (each.vae.config.scaling_factor, each.vae.config.get("latents_mean")) == scales


def test_latents_of_the_task_are_as_the_model_learns_them_and_not_clipped(tmp_path: Path) -> None:
    vae = autoencoder("FluxPipeline")
    with torch.no_grad():
        vae.encoder.conv_out.bias[0] = 9.0
    vae.save_pretrained(tmp_path)
    task: Any = build("task", Spec(name="decode", args={"encoder": str(tmp_path), "images": {"name": "photographs"},
                                                        "patch": 16}))  # fmt: skip
    (batch,) = islice(task.batches(batch_size=2, seed=0), 1)
    with torch.no_grad():
        raw = vae.encode(batch.y).latent_dist.mean
    torch.testing.assert_close(batch.x, (raw - 0.06) * 1.5)
    assert batch.x.max() > 5


DEEPER = {"encoder_blocks": [1] * 3, "decoder_blocks": [1] * 3}


@pytest.mark.parametrize(
    ("task", "args", "words"),
    [
        ("autoencode", DEEPER, "have 4 channels at 1/4 of the image's size and its teacher's 4 at 1/2: give it as"),
        ("decode", {"latent_channels": 16}, "latents of the task decode, 4x8x8: it takes 16 channels"),
    ],
)
def test_a_student_of_other_latents_is_refused_in_one_line(
    task: str, args: dict[str, Any], words: str, tmp_path: Path
) -> None:
    autoencoder("StableDiffusionPipeline").save_pretrained(tmp_path / "teacher")
    with pytest.raises(UserError, match=words) as error:
        distilled(tmp_path, {"name": "autoencoder_tiny", "args": {**TINY["args"], **args}}, task)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "student").exists()
