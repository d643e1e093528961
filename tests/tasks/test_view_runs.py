"""Runs whose students see less than their teachers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from seeing import DARK, classes, exposed, task_of
from support import drain
from torch import Tensor, nn

import kdgen
from kdgen.models.config import read_config
from kdgen.recipe import parse
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.training.run_report import NEW_NOISE
from kdgen.training.teacher import Teacher
from kdgen.training.train_step import Learner
from kdgen.types import Batch


class Same(nn.Module):
    """Leaves images as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


STUDENT = {"name": "dncnn", "args": {"channels": 3, "width": 4, "depth": 3}}


def seen_otherwise(colours: Path, out: Path, **more: Any) -> dict[str, Any]:
    """A recipe whose student sees by night what its teacher sees by day, or whatever else is told."""
    images = {"name": "folder", "args": {"path": str(colours)}}
    denoise = {
        "name": "denoise",
        "args": {"sigma": 5, "channels": 3, "patch": 16, "images": images, "evaluate": images},
    }
    return {
        "name": "night", "task": {"name": "views", "args": {"task": denoise, "student": [DARK]}}, "teacher": "same",
        "student": STUDENT, "stages": [{"methods": [{"name": "output"}]}], "steps": 2, "batch_size": 4,
        "cache": {"inputs": 16, "crop": 8, "dir": str(out / "cache")}, "device": "cpu", "evaluate_every": None,
        **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student sees by night what its teacher sees by day."""
    out = tmp_path_factory.mktemp("night")
    drain(run.distill(parse(seen_otherwise(colours, out)), out / "run", teacher=Same()))
    return out / "run"


class Mean(Same):
    """The mean of two exposures."""

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x[:, :3] + x[:, 3:]) / 2


@pytest.mark.parametrize(
    ("kind", "views", "shapes"),
    [(Same, {"student": [DARK]}, (3, 3)), (Mean, {"student": [exposed(1)], "teacher": [exposed(2)]}, (6, 3))],
)
def test_an_assistant_that_teaches_is_shown_what_students_are(
    kind: Any, views: Any, shapes: Any, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[Tensor]] = {}
    answer = Teacher.answer

    def noted(self: Teacher, batch: Batch, *args: Any, **more: Any) -> Any:
        asked.setdefault(type(self.net).__name__, []).append(batch.for_teacher().x[..., :8, :8])
        return answer(self, batch, *args, **more)

    monkeypatch.setattr(Teacher, "answer", noted)
    told = seen_otherwise(colours, tmp_path, controls=False, precision="float32")
    told |= {"assistants": [{"student": STUDENT, "share": 0.5}]}
    told["task"]["args"] |= views
    drain(run.distill(parse(told), tmp_path / "run", teacher=kind()))
    teacher, assistant = (torch.cat(asked[name]) for name in (kind.__name__, "DnCNN"))
    assert (teacher.shape[1], assistant.shape[1]) == shapes
    if kind is Same:
        assert assistant.mean() < teacher.mean() - 0.2, "by night"
    (row,) = [row for row in Report.read(tmp_path / "run").rows if row.role == "teacher"]
    task = task_of(json.loads((tmp_path / "run" / "recipe.json").read_text())["task"]["args"])
    net = kind()
    assert row.metrics["psnr"] == pytest.approx(task.evaluate(net, reference=net)["psnr"], abs=0.01)
    assert task.among_students().fingerprint() != task.fingerprint()


def test_a_run_measures_its_teacher_in_its_own_view_and_has_both_controls(done: Path) -> None:
    report = Report.read(done)
    found = {row.role: row.metrics["psnr"] for row in report.rows}
    assert found.keys() == {"input", "teacher", "student", "control_steps", "control_seconds"}
    task = task_of(json.loads((done / "recipe.json").read_text())["task"]["args"])
    assert found["teacher"] == pytest.approx(task.inner.evaluate(Same())["psnr"], abs=0.01)
    assert found["teacher"] > found["input"] + 10, "the input by night"
    assert (done / "samples.png").is_file()


def test_a_published_student_is_what_it_is_and_is_measured_in_its_view(done: Path, colours: Path) -> None:
    config = read_config(done / "student")
    assert (config.task["name"], config.task["view"]) == ("denoise", [DARK])
    card = (done / "student" / "README.md").read_text()
    assert "pipeline_tag: image-to-image" in card
    student = Report.read(done).find("student")
    assert student is not None
    measured = kdgen.evaluate(str(done / "student"), data=colours)
    assert measured.metrics["psnr"] == pytest.approx(student.metrics["psnr"], abs=0.01)


class Hue(Same):
    """Tells the three by their strongest channel."""

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x.mean((2, 3))


@pytest.mark.parametrize("hardened", [False, True])
def test_controls_of_a_chain_are_shown_what_those_of_a_plain_run_are(
    hardened: bool, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = list[Tensor]()
    step = Learner.step

    def noted(self: Learner, batch: Batch, *args: Any, **more: Any) -> Any:
        if self.teacher is None:
            shown.append(batch.x)
        return step(self, batch, *args, **more)

    monkeypatch.setattr(Learner, "step", noted)
    task = {"name": "views", "args": classes(colours, student=[DARK])}
    if hardened:
        task = {"name": "harden", "args": {"task": task, "damages": ["noise"]}}
    net = {"name": "feature_net", "args": {"width": 4}}
    told = {"name": "night", "task": task, "teacher": "hue", "student": net, "steps": 4, "batch_size": 4,
            "stages": [{"methods": [{"name": "logits"}]}], "cache": {"inputs": 4, "dir": str(tmp_path / "cache")},
            "device": "cpu", "evaluate_every": None, "precision": "float32"}  # fmt: skip
    seen, notes = {}, {}
    for name, assistants in {"plain": [], "chain": [{"student": net, "share": 0.5}]}.items():
        shown.clear()
        drain(run.distill(parse({**told, "assistants": assistants}), tmp_path / name, teacher=Hue()))
        seen[name], notes[name] = shown[:2], Report.read(tmp_path / name).notes
    first, second = (x[x.mean((1, 2, 3)).argsort()] for x in seen["chain"])
    assert not torch.equal(first, second), "the same four images, each time in a new night"
    assert torch.equal(torch.cat(seen["chain"]), torch.cat(seen["plain"]))
    assert [NEW_NOISE in notes[name] for name in ("plain", "chain")] == [False, not hardened]
