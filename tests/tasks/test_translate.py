"""The task that only a teacher knows the answers of."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support import call, drain
from torch import nn

import kdgen
from kdgen.models.model import Model, build_net
from kdgen.registry import Spec, build
from kdgen.report.compare import Report
from kdgen.report.propose import propose
from kdgen.tasks import Translate
from kdgen.training import run
from kdgen.types import Batch, UserError


class Negative(nn.Module):
    conditions = frozenset()

    def forward(self, x):
        return -x


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shown").mkdir()
    dice = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(dice.integers(0, 256, (40, 44, 3), dtype=np.uint8)).save(tmp_path / "shown" / f"{number}.png")
    return {"name": "folder", "args": {"path": str(tmp_path / "shown")}}


def test_batches_are_images_without_truth(folder):
    task = Translate(images=folder, patch=16)
    batch = next(task.batches(batch_size=3, seed=0))
    assert (batch.x.shape, batch.y, dict(batch.cond)) == ((3, 3, 16, 16), None, {})
    assert task.loss(batch.x, batch) is None
    assert task.resample_noise(batch, seed=1) is batch
    assert task.baseline(batch) is batch.x
    assert not task.has_truth


def test_nets_are_measured_by_how_near_they_come_to_the_teacher(folder):
    task = Translate(images=folder, evaluate=folder)
    figures = task.evaluate(nn.Identity(), reference=Negative())
    assert set(figures) == {"psnr@teacher", "ssim@teacher", "perceptual@teacher"}
    x = [batch.x for _, batch in task.evaluation_images()]
    assert figures["psnr@teacher"] == pytest.approx(
        sum(10 * torch.log10(4 / (2 * each).square().mean()).item() for each in x) / len(x), abs=1e-3
    )
    same = task.evaluate(Negative(), reference=Negative())
    assert (same["psnr@teacher"], same["perceptual@teacher"]) == (100, 0)
    assert task.evaluate(net := Negative(), reference=net) == {}
    with pytest.raises(UserError, match="only a teacher says what is right here: name it"):
        task.evaluate(Negative())


@pytest.mark.parametrize("key", ["images", "evaluate"])
def test_pairs_are_refused_which_have_a_truth(folder, key):
    path = folder["args"]["path"]
    with pytest.raises(UserError, match="pairs say what is right"):
        Translate(**{key: {"name": "pairs", "args": {"damaged": path, "clean": path}}})


def test_a_run_says_that_there_is_no_truth_and_no_control_and_its_student_is_used_like_any(
    folder, make, tmp_path, capsys
):
    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 4, "width": 16}), channels=3)
    task = {"name": "translate", "channels": 3}
    teacher = Model(net, name="style", channels=3, task=task, use=use)
    teacher.save(tmp_path / "style")
    args = {"images": folder, "evaluate": folder, "patch": 16}
    found = propose(teacher, build("task", Spec(name="translate", args=args)), fraction=0.5)
    assert found.use.name == "dncnn"
    recipe = make(f"task={json.dumps({'name': 'translate', 'args': args})}", f"teacher={tmp_path / 'style'}",
                  "controls=true", "student.args={}")  # fmt: skip
    events = drain(run.distill(recipe, tmp_path / "run"))
    assert not any(event.phase.startswith("control") for event in events)
    report = Report.read(tmp_path / "run")
    assert [row.role for row in report.rows] == ["input", "teacher", "student"]
    assert report.rows[0].name == "unchanged"
    assert "There was no ground truth" in report.verdict
    page = report.to_markdown()
    assert "perceptual distance (features32) (lower is better) to the teacher" in page
    assert "no control could be trained without it" in page
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "It was made to do what its teacher does" in card
    assert kdgen.load(tmp_path / "run").task == task
    capsys.readouterr()
    pictures = folder["args"]["path"]
    assert call("evaluate", str(tmp_path / "run"), "--teacher", str(tmp_path / "style"), "--data", pictures,
                "--json") == 0  # fmt: skip
    student = report.find("student")
    assert student is not None
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures == pytest.approx(student.metrics, abs=1e-4)
    assert call("evaluate", str(tmp_path / "run")) == 2
    assert call("restore", str(tmp_path / "run"), pictures, str(tmp_path / "styled")) == 0
    assert len(list((tmp_path / "styled").iterdir())) == 2


def test_a_teacher_of_no_family_gets_a_student_that_leaves_images_as_large(folder):
    teacher = Model(nn.Conv2d(3, 3, 9, padding=4), name="conv", channels=3, task={"name": "translate"})
    teacher.net = nn.Sequential(teacher.net, nn.Conv2d(3, 64, 9, padding=4), nn.Conv2d(64, 3, 9, padding=4))
    found = propose(teacher, Translate(images=folder), fraction=0.5)
    assert found.use.name == "half_res"
    net, _ = build_net(found.use, 3)
    assert net(Batch(x=torch.zeros(1, 3, 12, 14)).x).shape == (1, 3, 12, 14)
