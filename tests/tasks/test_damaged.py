"""Restorers of damage that is not noise of a known level: from pairs, and from damaged pictures alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import call, drain
from torch import nn

import kdgen
from kdgen.recipe import Recipe
from kdgen.registry import Spec, build
from kdgen.report.compare import Report
from kdgen.tasks import Denoise
from kdgen.training import run
from kdgen.types import UserError

Make = Callable[..., Recipe]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    random = np.random.default_rng(0)
    for number in range(3):
        clean = random.integers(40, 256, (24, 30), dtype=np.uint8)
        for folder, pixels in (("damaged", clean - 40), ("clean", clean)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return {"damaged": str(tmp_path / "damaged"), "clean": str(tmp_path / "clean")}


class Lighter(nn.Module):
    """Undoes some of the damage."""

    def __init__(self, by: float = 40.0) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return x + self.by / 127.5


def test_pairs_are_input_and_truth_as_they_are(folders: dict[str, str]) -> None:
    task = build("task", Spec(name="denoise", args={"images": {"name": "pairs", "args": folders}, "patch": 16}))
    batch = next(task.batches(batch_size=5, seed=0))
    assert batch.y is not None
    assert torch.allclose(batch.x + 40 / 127.5, batch.y, atol=1e-5)
    assert task.resample_noise(batch, seed=1) is batch
    assert task.evaluate(Lighter())["psnr"] > 60
    assert task.evaluate(Lighter(0))["psnr"] == pytest.approx(20 * np.log10(255 / 40), abs=1e-3)
    assert task.describe_evaluation() == "Measured against the clean images of 3 pairs, those it was trained on."
    with pytest.raises(UserError, match="leave clean out"):
        Denoise(images={"name": "pairs", "args": folders}, clean=False)


def test_damaged_pictures_alone_are_measured_by_the_teacher(folders: dict[str, str]) -> None:
    images = {"name": "folder", "args": {"path": folders["damaged"]}}
    task = Denoise(sigma=0, clean=False, images=images, patch=16)
    assert task.primary_metric == task.taught_primary_metric == "psnr@teacher"
    figures = task.evaluate(Lighter(35), reference=Lighter())
    assert figures["psnr@teacher"] > 30
    assert set(figures) == {"psnr@teacher", "ssim@teacher", "perceptual@teacher"}
    with pytest.raises(UserError, match="no clean images"):
        task.evaluate(Lighter())
    held_out = Denoise(sigma=0, clean=False, images=images, evaluate={"name": "pairs", "args": folders})
    assert held_out.evaluate(Lighter())["psnr"] > 60


def test_what_is_not_measured_is_not_in_report_and_card(make: Make, folders: dict[str, str], tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": folders["damaged"]}}
    task = {"sigma": 0, "clean": False, "images": images, "patch": 16}
    drain(run.distill(make("task.args={}", f"task.args={json.dumps(task)}"), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    measured = {"psnr@teacher", "ssim@teacher", "perceptual@teacher"}
    assert {row.role: set(row.metrics) for row in report.rows} == {
        "input": measured, "teacher": set(), "student": measured,
    }  # fmt: skip
    assert max(row.metrics.get("psnr@teacher", 0) for row in report.rows) < 99
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "damaged images, those it was trained on: there are no clean ones" in card
    assert "made for the damage of the images that it was trained on" in card
    assert "Gaussian" not in card
    assert "name: damaged" in card


def test_a_student_of_pairs_has_controls_and_is_measured_on_pairs_from_the_command_line(
    make: Make, folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"images": {"name": "pairs", "args": folders}, "patch": 16}
    drain(run.distill(make("task.args={}", f"task.args={json.dumps(task)}", "steps=4"), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert {row.role for row in report.rows} >= {"control_steps", "control_seconds"}
    student = report.find("student")
    assert student is not None
    capsys.readouterr()
    options = ["--data", folders["damaged"], "--clean", folders["clean"], "--json"]
    assert call("evaluate", str(tmp_path / "run"), *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["psnr"] == pytest.approx(student.metrics["psnr"], abs=1e-4)
    same = kdgen.evaluate(str(tmp_path / "run"), data={"name": "pairs", "args": folders})
    assert same.metrics == found["metrics"]
    assert call("evaluate", str(tmp_path / "run"), "--clean", folders["clean"]) == 2


def test_images_that_were_only_trained_on_are_not_named_as_those_of_the_figures(
    make: Make, folders: dict[str, str], tmp_path: Path
) -> None:
    task = {"images": {"name": "folder", "args": {"path": folders["clean"]}}, "patch": 16}
    recipe = make("task.args={}", f"task.args={json.dumps(task)}", "steps=2", "controls=false")
    drain(run.distill(recipe, tmp_path / "run"))
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "name: photographs" in card
    assert "name: clean" not in card
