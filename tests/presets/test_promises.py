"""What presets promise stands as figures in the report of a run, and holds after seconds of training."""

from pathlib import Path
from typing import Any

import pytest
from support import drain

from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.report.compare import Report
from kdgen.training import run

SHORT = ("steps=150", "batch_size=16", "task.args.patch=16", "task.args.num_images=64", "cache.inputs=320",
         "cache.augment=false", "controls=false", "evaluate_every=1000", "device=cpu", "precision=float32", "ema=0.99")  # fmt: skip


def figures(name: str, tmp_path: Path) -> Any:
    """What the report of a short run of a preset says of its student."""
    recipe = override(preset(name), [*SHORT, f"cache.dir={tmp_path / 'cache'}"])
    drain(run.distill(recipe, tmp_path / "run"))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    return student.metrics


@pytest.mark.parametrize("name", [pytest.param("autoencoder", marks=pytest.mark.slow), "vae"])
def test_latents_of_student_and_teacher_are_exchangeable_both_ways(name: str, tmp_path: Path) -> None:
    said = figures(name, tmp_path)
    assert said["latent_error"] < 0.2
    assert said["psnr_teacher_decoder"] > 20
    assert said["psnr_student_decoder"] > 20


def test_a_decoder_takes_the_latents_of_its_teachers_encoder(tmp_path: Path) -> None:
    said = figures("vae-decoder", tmp_path)
    assert said["psnr@teacher"] > 22
