"""Tasks that the package has never heard of, from recipe to export: answers twice as large, and clips.

All that is known of them stands in this file.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support import call, drain
from torch import Tensor, nn

import kdgen
import kdgen.training.registered
from kdgen import export_model, registry
from kdgen.models.model import Model, load
from kdgen.recipe import Recipe, parse
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.report.sample_grids import picture
from kdgen.training import run
from kdgen.types import Batch, Metrics, Net, Task
from kdgen.utils.conditions import call as ask
from kdgen.utils.convert import to_pictures
from kdgen.utils.devices import evaluating
from kdgen.utils.seed import generator

SIDE, FRAMES = 16, 4


def waves(number: int, seed: int, how_many: int, *shape: int) -> Tensor:
    """Smooth patterns ``(how_many, 1, *shape)`` in [-1, 1]."""
    random = generator(seed, "waves", number)
    phase = 6.3 * torch.rand(how_many, 1, *[1] * len(shape), generator=random)
    for axis, extent in enumerate(shape):
        pitch = 2 * torch.rand(how_many, 1, *[1] * len(shape), generator=random) - 1
        phase = phase + pitch * torch.arange(extent).view(*[-1 if i == axis else 1 for i in range(len(shape))])
    return phase.sin()


class Twofold(Task):
    """What both tasks share: they are measured by the PSNR to their truth."""

    channels = 1
    primary_metric = taught_primary_metric = "psnr"
    quick_eval_images = 2
    needs: frozenset[str] = frozenset()

    def make(self, number: int, seed: int, how_many: int) -> Batch:
        raise NotImplementedError

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return (self.make(number, seed, batch_size) for number in count(start))

    def fingerprint(self) -> str:
        return json.dumps(self.describe())

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        return None if batch.y is None else (out - batch.y).square().flatten(1).mean(1)

    def example(self) -> Batch:
        return replace(self.make(0, 0, 1), y=None)

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        raise NotImplementedError

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        return islice(((f"wave {number}", self.make(number, seed + 1000, 1)) for number in range(3)), limit)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        errors = []
        for _, batch in self.evaluation_images(seed=seed, limit=limit):
            with evaluating(net):
                out = ask(net, batch.x, batch.cond).float()
            errors.append(float((out - batch.y).square().mean()))
        return {"psnr": 10 * float(torch.log10(4 / torch.tensor(errors).mean()))}

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> str:
        return f"Measured on three waves with seed {seed}."


class Enlarge(Twofold):
    """Images at twice their height and width."""

    equivariant = True

    def __init__(self, size: int = SIDE) -> None:
        self.size = size

    def make(self, number: int, seed: int, how_many: int) -> Batch:
        y = waves(number, seed, how_many, 2 * self.size, 2 * self.size)
        return Batch(x=F.avg_pool2d(y, 2), y=y)

    def describe(self) -> dict[str, Any]:
        return {"name": "enlarge", "size": self.size}

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        return (1, 2 * batch.x.shape[-2], 2 * batch.x.shape[-1])

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        return batch


class Clips(Twofold):
    """Clips ``(B, C, T, H, W)`` without their noise."""

    equivariant = True

    def __init__(self, frames: int = FRAMES) -> None:
        self.frames = frames

    def make(self, number: int, seed: int, how_many: int) -> Batch:
        y = waves(number, seed, how_many, self.frames, SIDE, SIDE)
        return self.resample_noise(Batch(x=y, y=y), seed=number)

    def describe(self) -> dict[str, Any]:
        return {"name": "clips", "frames": self.frames}

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        return tuple(batch.x.shape[1:])

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        assert batch.y is not None
        return replace(batch, x=batch.y + 0.2 * torch.randn(batch.y.shape, generator=generator(seed, "noise")))


class Enlarger(nn.Module):
    """Nearest neighbours, and what a few convolutions add."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(channels, width, 3, 1, 1), nn.Conv2d(width, 4 * channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        nearest = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return nearest + F.pixel_shuffle(self.tail(torch.relu(self.head(x))), 2)


class ClipNet(nn.Module):
    """Convolutions over time and place."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv3d(channels, width, 3, 1, 1), nn.Conv3d(width, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x - self.tail(torch.relu(self.head(x)))
        return out


TASKS = {"enlarge": (Enlarge, "enlarger", Enlarger), "clips": (Clips, "clip_net", ClipNet)}
METHODS = [{"name": "output"}, {"name": "feature", "args": {"pairs": [["head", "head"]]}, "weight": 0.1}]


class Done:
    """A finished run of a task in a folder, and what it was made of."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        task, net, made = TASKS[name]
        self.task, self.net = task(), net
        torch.manual_seed(0)
        teacher, use = made(width=6), Spec(name=net, args={"channels": 1, "width": 6})
        Model(teacher, name="big", channels=1, task=self.task.describe(), use=use).save(folder / "big")
        self.recipe: Recipe = parse({
            "name": "small", "task": {"name": name}, "teacher": str(folder / "big"),
            "student": {"name": net, "args": {"width": 4}},
            "stages": [{"methods": METHODS, "ratio": {"name": "fixed", "args": {"alpha": 0.5}}}],
            "steps": 3, "batch_size": 4, "cache": {"inputs": 16, "dir": str(folder / "cache")},
            "controls": True, "device": "cpu", "precision": "float32", "evaluate_every": 0.5,
        })  # fmt: skip
        self.events = drain(run.distill(self.recipe, folder / "run"))
        self.student = folder / "run" / "student"


@pytest.fixture(scope="module", params=list(TASKS))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    with pytest.MonkeyPatch.context() as patch:
        for name, (task, net, made) in TASKS.items():
            patch.setitem(registry._registered["task"], name, task)
            patch.setitem(registry._registered["net"], net, made)
        yield Done(request.param, tmp_path_factory.mktemp(request.param))


def test_it_is_distilled_from_cached_answers_with_both_controls(done: Done) -> None:
    phases = [event.phase for event in done.events if event.kind == "phase"]
    assert phases == ["student", "control_steps", "control_seconds"]
    answers = [event.data["done"] for event in done.events if event.kind == "answers" and event.phase == "student"]
    assert answers[-1] == 16


def test_its_report_measures_teacher_student_and_controls(done: Done) -> None:
    report = Report.read(done.folder / "run")
    roles = {row.role for row in report.rows}
    assert {"teacher", "student", "control_steps", "control_seconds"} <= roles
    assert all(row.macs > 0 and row.latency_ms > 0 for row in report.rows if row.role != "input")
    teacher = report.find("teacher")
    assert teacher is not None
    assert teacher.metrics["psnr"] == pytest.approx(done.task.evaluate(load(done.folder / "big").net)["psnr"])


def test_its_pictures_show_input_nets_and_truth(done: Done) -> None:
    with Image.open(done.folder / "run" / "samples.png") as image:
        assert image.width > 5 * 200  # input, teacher, student, two controls, truth
        assert len(image.convert("L").getcolors(256) or ()) > 50
    assert (done.folder / "run" / "curves.png").is_file()


def test_its_card_names_the_task_and_nothing_of_others(done: Done) -> None:
    text = (done.student / "README.md").read_text()
    assert done.name in text
    assert "Gaussian noise" not in text
    assert "photographs" not in text
    assert "kdgen.load" in text


def test_a_student_is_compared_with_its_teacher(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", str(done.student), str(done.folder / "big"), "--out", str(done.folder / "compared")) == 0
    report = Report.read(done.folder / "compared")
    assert done.name in report.task
    again = kdgen.evaluate(str(done.student))
    assert again.metrics["psnr"] == pytest.approx(done.task.evaluate(load(done.student).net)["psnr"])


def test_a_student_is_exported(done: Done) -> None:
    made = export_model(load(done.student), done.folder / "student.pt2", format="torch-export")
    assert made.parity.max_abs_error < 1e-4
    assert made.path.is_file()


def test_a_picture_of_a_model_without_run_is_drawn(done: Done, tmp_path: Path) -> None:
    picture(tmp_path / "all.png", done.task, {"teacher": load(done.folder / "big").net})
    assert (tmp_path / "all.png").stat().st_size > 1000


@pytest.mark.parametrize("done", ["enlarge"], indirect=True)
def test_images_are_enlarged_by_the_model_and_by_the_command(done: Done) -> None:
    x = done.task.make(0, 5, 1).x
    assert load(done.student).restore(x).shape[-2:] == (2 * SIDE, 2 * SIDE)
    to_pictures(x)[0].save(done.folder / "small.png")
    small, large = done.folder / "small.png", done.folder / "large.png"
    assert call("restore", str(done.student), str(small), str(large)) == 0
    with Image.open(large) as image:
        assert image.size == (2 * SIDE, 2 * SIDE)
