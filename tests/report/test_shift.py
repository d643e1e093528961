"""Nets on shifted images: the same damage for all, what is left of them, and what breaks them first."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import call, drain
from torch import nn

import kdgen
from kdgen.data.damages.noise import Noise
from kdgen.data.damages.shifts import SHIFTS
from kdgen.models.model import Model, build_net
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.report.report import Report
from kdgen.report.shift import Shifted
from kdgen.report.shift_report import ShiftReport, ShiftRow
from kdgen.tasks import Denoise
from kdgen.training import run

NAMES = ["noise", "blur", "jpeg", "contrast"]


class Half(nn.Module):
    """Halves an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


class Fixed(nn.Module):
    """Gives an image back, of one size alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-2:] != (16, 16):
            raise ValueError("16x16 alone")
        return x


def row(role: Any, unshifted: float, blur: list[float], noise: list[float], metric: str = "psnr") -> ShiftRow:
    shifted = {name: tuple({metric: value} for value in values) for name, values in (("blur", blur), ("noise", noise))}
    return ShiftRow(role=role, name=role, unshifted={metric: unshifted}, shifted=shifted)


def test_the_damage_of_an_image_is_the_same_for_every_net_and_call() -> None:
    x = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = Shifted(nn.Identity(), Noise(25.0))(x)
    assert not torch.equal(seen, x)
    assert torch.equal(Shifted(Half(), Noise(25.0))(x), seen / 2)
    assert not torch.allclose(Shifted(nn.Identity(), Noise(25.0), seed=1)(x), seen)
    assert not torch.allclose(Shifted(nn.Identity(), Noise(25.0))(x + 0.1) - 0.1, seen, atol=1e-3)
    assert torch.equal(Shifted(Half(), None)(x), x / 2)
    torch.testing.assert_close(Shifted(Fixed(), Noise(25.0))(x), seen)


def test_what_is_left_is_the_gain_over_what_doing_nothing_has() -> None:
    floor, net = row("input", 20, [15, 10], [20, 20]), row("student", 30, [28, 24.9], [27, 24])
    idle, teacher = row("control_steps", 19, [19, 19], [19, 19]), row("teacher", 32, [31, 30], [29, 26])
    report = ShiftReport(task="t", metric="psnr", rows=(floor, teacher, net, idle))
    assert report.left(net, "blur") == pytest.approx([0.8, 0.49])
    assert report.broken(net) == {"noise": 2, "blur": 2}  # 40 % is left, and 49 %
    assert report.left(idle, "blur") == []
    assert report.breaks == [{}, {"noise": 2, "blur": 2}, {}]
    words = " ".join(report.sentences())
    assert "The student student is broken first by noise, at severity 2: 40% is left." in words
    assert "Nothing breaks the teacher teacher: 50% is left where it loses most, by noise." in words
    assert "The control, equal steps control_steps gains nothing" in words
    assert report.means()[1][2][2:] == ["30.00", "26.45", "25.50"]


def test_without_a_floor_figures_are_shares_and_what_is_no_number_is_broken() -> None:
    net = row("model", 0.8, [0.6, 0.3], [0.8, math.nan], metric="accuracy")
    report = ShiftReport(task="t", metric="accuracy", rows=(net,))
    assert report.left(net, "blur") == pytest.approx([0.75, 0.375])
    assert report.broken(net) == {"blur": 2, "noise": 2}
    lower = row("model", 2.0, [3.0, 5.0], [2.0, 2.0], metric="fid")
    report = ShiftReport(task="t", metric="fid", rows=(lower,))
    assert report.left(lower, "blur") == pytest.approx([2 / 3, 0.4])
    assert report.broken(lower) == {"blur": 2}


def test_a_run_is_measured_with_its_teacher_its_controls_and_other_images(
    make: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drain(run.distill(make("steps=2", "cache.inputs=8"), tmp_path / "run"))
    (tmp_path / "other").mkdir()
    Image.fromarray(np.eye(24, dtype=np.uint8) * 255).save(tmp_path / "other" / "line.png")
    given = ("--shift", "--data", str(tmp_path / "other"), "--out", str(tmp_path / "shifted"))
    assert call("evaluate", str(tmp_path / "run"), *given, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    report = Report.read(tmp_path / "run")
    assert [row["role"] for row in found["rows"]] == [row.role for row in report.rows]
    for mine, known in zip(found["rows"], report.rows, strict=True):
        assert mine["unshifted"]["psnr"] == pytest.approx(known.metrics["psnr"], abs=1e-3)
        assert mine["other"]["psnr"] != mine["unshifted"]["psnr"]
        assert {shift: len(figures) for shift, figures in mine["shifted"].items()} == dict.fromkeys(NAMES, 5)
    contrast = [figures["psnr"] for figures in found["rows"][0]["shifted"]["contrast"]]
    assert contrast == sorted(contrast, reverse=True)
    assert json.loads((tmp_path / "shifted" / "shift.json").read_text())["rows"] == found["rows"]
    assert "| student | tiny |" in (tmp_path / "shifted" / "shift.md").read_text()
    assert Image.open(tmp_path / "shifted" / "shift.png").size[0] > 400
    assert call("evaluate", str(tmp_path / "run"), "--shift", "--sigma", "15") == 2
    assert "a run is measured by its own task" in capsys.readouterr().err


@pytest.mark.parametrize(("wrapper", "seen"), [("harden", {}), ("views", {}), ("views", {"student": ["noise"]})])
def test_a_run_whose_task_wraps_another_is_measured_by_it_and_each_net_in_its_view(
    wrapper: str, seen: dict[str, Any], make: Callable[..., Recipe], tmp_path: Path
) -> None:
    plain = make("steps=1", "cache.inputs=8", "controls=false")
    task = Spec(name=wrapper, args={"task": plain.task.model_dump(mode="json"), **seen})
    drain(run.distill(plain.model_copy(update={"task": task}), tmp_path / "run"))
    found = kdgen.shift(str(tmp_path / "run"))
    assert [row.role for row in found.rows] == ["input", "teacher", "student"]
    assert found.metric == "psnr"
    known = {row.role: row.metrics["psnr"] for row in Report.read(tmp_path / "run").rows}
    measured = {row.role: row.unshifted["psnr"] for row in found.rows}
    assert measured == pytest.approx({role: known[role] for role in measured}, abs=1e-3)


def test_a_classifier_is_held_against_guessing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 60 * number, np.uint8)).save(tmp_path / "pets" / name / "0.png")
    net, use = build_net(Spec(name="feature_net", args={"width": 2, "classes": 3}), channels=3)
    task = {"name": "classify", "num_classes": 3, "size": 8, "channels": 3}
    Model(net, name="tiny", channels=3, task=task, use=use).save(tmp_path / "tiny")
    assert call("evaluate", str(tmp_path / "tiny"), "--data", str(tmp_path / "pets"), "--shift") == 0
    shown = capsys.readouterr().out
    assert "guessing" in shown
    assert all(name in shown for name in NAMES)


def test_the_measurements_are_counted_and_the_damage_comes_on_top_of_the_tasks_own(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(tmp_path / "grey.png")
    task = Denoise(sigma=25, channels=1, evaluate={"name": "folder", "args": {"path": str(tmp_path)}})
    seen: list[tuple[int, int]] = []
    found = kdgen.shift(nn.Identity(), task=task, progress=lambda *counts: seen.append(counts))
    assert seen == [(number, 42) for number in range(1, 43)]
    assert found.rows[0].unshifted == found.rows[1].unshifted == task.evaluate(nn.Identity())
    sigma = SHIFTS[0][-1].args["sigma"]
    expected = -20 * math.log10(math.hypot(25, sigma) / 255)
    assert found.rows[1].shifted["noise"][-1]["psnr"] == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("gan", "--shift"), "shifts are of images that a net is shown"),
        (("denoiser", "--out", "there"), "add --shift"),
    ],
)
def test_what_has_no_images_to_shift_is_refused_in_a_line(
    given: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", *given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
