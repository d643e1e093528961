"""Students of autoencoders in the place of their teacher, in pipelines of plain diffusers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
)
from diffusers.image_processor import VaeImageProcessor
from support import drain

from kdgen.models.model import load
from kdgen.recipe import parse
from kdgen.training import run

SCALES = {"scaling_factor": 0.18215, "shift_factor": 0.11, "latents_mean": [0.1, -0.2, 0.3, 0], "latents_std": [1, 2, 3, 4]}  # fmt: skip
KL = {"block_out_channels": [4, 8], "norm_num_groups": 4, "mid_block_attention": False}
STUDENTS = {
    "kl": {"name": "autoencoder_kl", "args": KL},
    "kl of a whole configuration": {"name": "autoencoder_kl", "args": {"config": {
        "in_channels": 3, "out_channels": 3, "block_out_channels": [4, 8], "norm_num_groups": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        "mid_block_add_attention": False, "scaling_factor": 0.5}}},
    "tiny": {"name": "autoencoder_tiny", "args": {"width": 8, "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]}},
}  # fmt: skip


@pytest.fixture
def teacher(tmp_path: Path) -> AutoencoderKL:
    """A tiny autoencoder that scales its latents as those of Stable Diffusion do, and lies in a folder."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4, mid_block_add_attention=False, sample_size=16, **SCALES,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "teacher")
    return vae.eval()


def distilled(tmp_path: Path, student: dict[str, Any], **settings: Any) -> Path:
    recipe = {
        "name": "small",
        "task": {"name": "autoencode", "args": {"images": {"name": "dead_leaves"}, "patch": 16, "num_images": 2}},
        "teacher": str(tmp_path / "teacher"),
        "student": student,
        "stages": [{"methods": [{"name": "output"}], "lr": 1e-9}],
        "steps": 1, "batch_size": 2, "cache": {"inputs": 0}, "controls": False, "device": "cpu",
        "precision": "float32", "ema": 0, **settings,
    }  # fmt: skip
    drain(run.distill(parse(recipe), tmp_path / "run"))
    return tmp_path / "run" / "student"


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_says_how_its_teachers_latents_are_scaled(name: str, tmp_path: Path, teacher: AutoencoderKL) -> None:
    student = distilled(tmp_path, STUDENTS[name])
    plain = AutoencoderTiny if name == "tiny" else AutoencoderKL
    again = load(student)
    again.save(tmp_path / "again")
    for folder in (student, tmp_path / "again"):
        written = json.loads((folder / "vae" / "config.json").read_text())
        opened = plain.from_pretrained(folder, subfolder="vae").config
        for key, value in SCALES.items():
            assert written[key] == opened[key] == value


def test_a_student_drops_into_the_pipeline_of_its_teacher(tmp_path: Path, teacher: AutoencoderKL) -> None:
    folder = distilled(tmp_path, STUDENTS["kl"], init="teacher")
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=4, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_num_groups=4,
    )  # fmt: skip
    pipe = DiTPipeline(transformer=transformer.eval(), vae=teacher, scheduler=DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)

    def drawn() -> torch.Tensor:
        noise = torch.Generator().manual_seed(0)
        images = pipe([1, 2], generator=noise, guidance_scale=1, num_inference_steps=2, output_type="pt").images
        return torch.as_tensor(images)

    asked: list[torch.Tensor] = []
    by_teacher = drawn()
    pipe.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    decode = pipe.vae.decode
    pipe.vae.decode = lambda z, **more: asked.append(z) or decode(z, **more)  # type: ignore[func-returns-value]
    torch.testing.assert_close(drawn(), by_teacher, atol=1e-5, rtol=0)
    with torch.no_grad():
        by_kdgen = load(folder).net.decode(asked[0])
    torch.testing.assert_close((by_kdgen / 2 + 0.5).clamp(0, 1), by_teacher, atol=1e-5, rtol=0)


def test_a_student_drops_into_a_pipeline_that_shifts_its_latents(tmp_path: Path, teacher: AutoencoderKL) -> None:
    """As those of Stable Diffusion 3 and Flux do, which need more than diffusers: their lines around the autoencoder."""
    folder = distilled(tmp_path, STUDENTS["kl"], init="teacher")
    shown = VaeImageProcessor(vae_scale_factor=2)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def through(vae: AutoencoderKL) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents as a pipeline denoises them, and the image that it shows of such."""
        latents = vae.encode(shown.preprocess(picture)).latent_dist.mode()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        z = latents / vae.config.scaling_factor + vae.config.shift_factor
        return latents, shown.postprocess(vae.decode(z, return_dict=False)[0], output_type="pt")

    student = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    latents, by_teacher = through(teacher)
    torch.testing.assert_close(through(student), (latents, by_teacher), atol=1e-5, rtol=0)
    with torch.no_grad():
        by_kdgen = load(folder).net.decode(latents / SCALES["scaling_factor"] + SCALES["shift_factor"])
    torch.testing.assert_close((by_kdgen / 2 + 0.5).clamp(0, 1), by_teacher, atol=1e-5, rtol=0)
    student.register_to_config(shift_factor=0.0)
    assert (through(student)[0] - latents).abs().max() > 0.01, "the shift counts"
