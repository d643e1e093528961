"""Two tasks in one student: what each method compares, how both are measured, and what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import drain, learner_of, untrained
from torch import Tensor, nn

from kdgen import evaluate
from kdgen.models.model import load
from kdgen.models.teachers import Teachers
from kdgen.recipe import Recipe, override
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.report.shift import shift
from kdgen.tasks.together import Together
from kdgen.tasks.views import Views
from kdgen.training import run
from kdgen.types import Batch, UserError
from kdgen.utils.references import resolved

CLASSES, SIDE, SIGMA = 3, 16, 51.0
Make = Callable[..., Recipe]


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Any]:
    """Noisy stripes whose direction and width are their class."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.arange(48) % CLASSES
    kinds = np.stack([127 + 120 * np.sin(0.9 * rows), 127 + 120 * np.sin(0.9 * columns), 0 * rows + 40])
    for name, values in (("images", kinds[labels]), ("labels", labels)):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (tmp_path / name).write_bytes(head + values.astype(np.uint8).tobytes())
    images = {"name": "idx", "args": {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}}
    told = {"images": images, "channels": 1, "patch": SIDE, "augment": False}
    return {"restore": {"name": "denoise", "args": {"sigma": SIGMA}}, "classify": {"name": "classify", "args": told}}


class Apart(nn.Module):
    """Images and logits by weights of their own: the input times ``scale``, and ``logits`` everywhere."""

    conditions: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.logits = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor([1.0, 0.0, -1.0]))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.linspace(-1, 1, x.shape[-1]).expand(len(x), 1, *x.shape[-2:])
        return torch.cat([self.scale * x, self.logits.view(1, -1, 1, 1) + places], 1)


class Mean(nn.Module):
    """Logits of how bright an image is."""

    conditions: frozenset[str] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean((1, 2, 3))
        return torch.stack([bright, -bright, 0 * bright], 1)


class Half(nn.Module):
    """Half the input."""

    conditions: frozenset[str] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def first(task: Together, number: int = 8) -> Batch:
    return next(task.batches(batch_size=number, seed=0))


def test_the_images_of_the_second_task_are_damaged_by_the_first_and_keep_their_labels(tasks: dict[str, Any]) -> None:
    task = Together(tasks)
    batch = first(task, 32)
    alone = next(iter(task.parts["classify"].batches(batch_size=32, seed=0)))
    assert batch.y is not None
    assert alone.y is not None
    torch.testing.assert_close(batch.y, alone.x)
    assert torch.equal(batch.truths["classify"], alone.y)
    assert float((batch.x - batch.y).std()) == pytest.approx(2 * SIGMA / 255, rel=0.03)
    seen = task.about(batch, "classify")
    assert torch.equal(seen.y if seen.y is not None else seen.x, alone.y)
    assert torch.equal(seen.teacher_x if seen.teacher_x is not None else seen.x, alone.x)
    again = task.resample_noise(batch, seed=1)
    assert torch.equal(again.truths["classify"], alone.y)
    assert not torch.equal(again.x, batch.x)


def test_a_batch_is_cut_and_put_together_with_all_that_is_known_of_it(tasks: dict[str, Any]) -> None:
    batch = first(Together(tasks))
    halves = batch.split(2)
    for name, column in batch.columns().items():
        assert torch.equal(torch.cat([half.columns()[name] for half in halves]), column)
    assert batch.columns().keys() == {"x", "y", "cond.sigma", "truths.classify", "part_x.classify"}


def test_its_own_loss_is_the_weighted_sum_of_both(tasks: dict[str, Any]) -> None:
    task = Together(tasks, weights={"classify": 0.25})
    batch, net = first(task), Apart()
    out = net(batch.x)
    logits = net.logits.expand(8, -1)  # the mean over the places, which sum to 0
    torch.testing.assert_close(task.read(out, "classify"), logits)
    image = task.main.loss(net.scale * batch.x, batch)
    assert image is not None
    expected = image + 0.25 * F.cross_entropy(logits, batch.truths["classify"], reduction="none")
    torch.testing.assert_close(task.loss(out, batch), expected)
    assert task.loss(out, Batch(x=batch.x)) is None


def test_each_method_compares_its_part_with_its_own_teacher_who_sees_what_it_is_to_see(tasks: dict[str, Any]) -> None:
    task = Together(tasks)
    batch, student = first(task), Apart()
    teacher = Teachers(Half(), {"classify": Mean()}, {"classify": "classify"})
    stage = {"methods": [{"name": "output"}, {"name": "logits", "teacher": "classify", "args": {"temperature": 1}}]}
    learner = learner_of(stage, student, teacher, batch, task, teachers={"classify": "anything"})
    learner.enter(0)
    answer = learner.ask(batch)
    _, shown, _ = learner.loss(learner._look(batch, answer, 0.0), 0.0, 0)
    assert batch.y is not None
    torch.testing.assert_close(shown["output"], ((student.scale - 0.5) * batch.x).square().mean())
    p, q = Mean()(batch.y).log_softmax(1), student.logits.log_softmax(0)
    torch.testing.assert_close(shown["logits"], (p.exp() * (p - q)).sum(1).mean())


def settings(tasks: dict[str, Any], home: Path, view: Sequence[Any] = ()) -> list[str]:
    """A run of two tasks whose second teacher is an untrained classifier, and whose student sees through a view."""
    made_for = {"name": "classify", "num_classes": CLASSES, "size": SIDE}
    untrained(Spec(name="feature_net", args={"channels": 1, "width": 4, "classes": CLASSES}), made_for).save(home)
    methods = [{"name": "output"}, {"name": "logits", "teacher": "classify"}, {"name": "feature", "part": "classify"}]
    student = {"name": "two_headed", "args": {"widths": [4, 8]}}
    task: dict[str, Any] = {"name": "together", "args": {"tasks": tasks, "num_images": 3}}
    task = {"name": "views", "args": {"task": task, "student": [*view]}} if view else task
    return [f"task={json.dumps(task)}",
            f"teachers={json.dumps({'classify': str(home)})}", f"student={json.dumps(student)}",
            f"stages.0.methods={json.dumps(methods)}", "stages.0.weighting=agreement"]  # fmt: skip


@pytest.mark.parametrize("view", [[], [{"name": "noise", "args": {"sigma": 68.0}}]])
def test_a_student_learns_two_tasks_from_two_teachers_and_is_measured_in_both(
    view: list[Any], make: Make, tasks: dict[str, Any], tmp_path: Path
) -> None:
    drain(run.distill(make(*settings(tasks, tmp_path / "second", view)), tmp_path / "run"))
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert {"psnr", "accuracy"} <= rows["student"].metrics.keys() & rows["control_steps"].metrics.keys()
    assert {"psnr", "ssim"} <= rows["teacher"].metrics.keys() & rows["input"].metrics.keys()
    assert rows["further_teacher"].metrics.keys() == {"accuracy", "balanced_accuracy", "auroc", "ece"}
    assert (rows["input"].metrics["psnr"] < 13) == bool(view), "the input is what the student sees"
    assert "not measure" not in (tmp_path / "run" / "report.md").read_text()
    student = load(str(tmp_path / "run"))
    picture = torch.rand(1, 1, SIDE, SIDE)
    assert student.net(picture).shape == (1, 1 + CLASSES, SIDE, SIDE)
    assert student.restore(picture).shape == picture.shape
    assert "classes" in (tmp_path / "run" / "student" / "README.md").read_text()
    again = evaluate(str(tmp_path / "run"), data=tmp_path / "images").metrics
    assert again["psnr"] == pytest.approx(rows["student"].metrics["psnr"], abs=1), "of more images"
    for name in rows["further_teacher"].metrics:
        assert again[name] == pytest.approx(rows["student"].metrics[name], abs=1e-3)
    shifted = {row.role: row for row in shift(tmp_path / "run", num_images=2).rows}
    assert shifted["student"].unshifted.keys() == shifted["student"].shifted["noise"][0].keys() == again.keys()
    assert {"psnr", "ssim"} <= shifted["teacher"].unshifted.keys()
    assert "accuracy" not in shifted["teacher"].unshifted
    with pytest.raises(UserError, match="classifiers are measured on labelled images"):
        evaluate(str(tmp_path / "run"))


def test_with_a_view_the_first_teacher_is_shown_less_noise_and_the_second_none(tasks: dict[str, Any]) -> None:
    noise = {"name": "noise", "args": {"sigma": 68.0}}
    task = Views(Together(tasks), student=[noise])
    batch = next(task.batches(batch_size=8, seed=0))
    first, second = (task.about(batch, part).for_teacher() for part in task.parts)
    assert batch.y is not None
    assert torch.equal(second.x, batch.y)
    shown = [255 / 2 * float((each - batch.y).std()) for each in (batch.x, first.x)]
    assert shown == [pytest.approx(85, rel=0.05), pytest.approx(SIGMA, rel=0.05)]
    anew = task.resample_view(batch, seed=1)
    assert not torch.equal(anew.x, batch.x)
    for part in task.parts:
        assert torch.equal(task.about(anew, part).for_teacher().x, task.about(batch, part).for_teacher().x)


def test_what_its_tasks_name_lies_where_the_recipe_does(tmp_path: Path, make: Make) -> None:
    images = {"name": "folder", "args": {"path": "pictures"}}
    task = {"name": "together", "args": {"tasks": {"a": {"name": "denoise"}, "b": {"name": "classify", "args": {
        "images": images}}}}}  # fmt: skip
    found = resolved(override(make(), [f"task={json.dumps(task)}"]), tmp_path)
    assert found.task.args["tasks"]["b"]["args"]["images"]["args"]["path"] == str(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restore": {"name": "classify"}}, "restore is to restore what was damaged, and classify does not"),
        ({"restore": {"name": "denoise", "args": {"channels": 3}}}, "tell classes of images of 3 channels"),
        ({"restore": {"name": "denoise", "args": {"channels": "both"}}}, "set channels to 1 or 3"),
        ({"classify": {"name": "denoise"}}, "classify is to tell classes"),
    ],
)
def test_tasks_that_do_not_go_together_are_refused(tasks: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Together({**tasks, **change})
    with pytest.raises(UserError, match="weights names segment, and the tasks are restore, classify"):
        Together(tasks, weights={"segment": 1.0})


def test_parts_and_teachers_that_do_not_fit_are_refused(make: Make, tasks: dict[str, Any], tmp_path: Path) -> None:
    given = settings(tasks, tmp_path / "second")
    for more, message in (
        (['stages.0.methods=[{"name": "output", "part": "segment"}]'], "the task has restore, classify"),
        (
            ['teachers={"classify": "features32"}'],
            "gives 96 numbers, and the task classify 3 numbers: set task.args.tasks.classify.args.num_classes to 96",
        ),
        (['task={"name": "denoise", "args": {"patch": 16}}'], "the task has no parts: leave it out"),
    ):
        with pytest.raises(UserError, match=message):
            drain(run.distill(make(*given, *more), tmp_path / "refused"))
