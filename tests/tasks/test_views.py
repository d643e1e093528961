"""Views: each of the two nets sees the images its own way, in training, in answers on disk and in the report."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from seeing import DARK, HOLES, classes, restored, task_of
from support import drain
from torch import Tensor, nn

from kdgen.data.augment import drawn
from kdgen.data.pictures import to_grey
from kdgen.models.model import Model
from kdgen.recipe import CacheSpec
from kdgen.report import sample_grids
from kdgen.tasks import Classify, Views
from kdgen.tasks.infer_task import measuring_task
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import Batch, UserError
from kdgen.utils.seed import generator


class Hue(nn.Module):
    """Tells the three by their strongest channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_a_teacher_is_measured_in_its_own_view_and_everything_else_in_the_students(colours: Path) -> None:
    task, net = task_of(classes(colours, student=["grey"])), Hue()
    (batch,) = islice(task.batches(batch_size=6, seed=0), 1)
    assert batch.teacher_x is not None
    assert torch.equal(batch.x[:, 0], batch.x[:, 2])
    torch.testing.assert_close(batch.x[:, :1], to_grey(batch.teacher_x))
    assert task.evaluate(net, reference=net)["accuracy"] == 1
    assert task.evaluate(net)["accuracy"] < 0.6
    assert task.evaluate(Hue(), reference=net)["agreement"] < 0.6
    assert isinstance(task.inner, Classify)
    assert task.describe() == {**task.inner.describe(), "view": [{"name": "grey", "args": {}}]}
    assert "through grey by students and controls, and as they are by the teacher" in task.describe_evaluation(
        reference=net
    )


def test_what_a_view_draws_depends_on_the_image_and_not_on_who_looks_or_beside_what(colours: Path) -> None:
    task = task_of(restored(colours, student=[DARK]))
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    seen, told = task.student.each(images, 0)
    alone, _ = task.student.each(images[1:2], 0)
    assert torch.equal(seen[1:2], alone)
    assert not torch.equal(seen, task.student.each(images, 1)[0])
    assert told["stops"].shape == (3,)
    shown = [batch for _, batch in task._evaluation_images(seed=0)]
    again = [batch for _, batch in task._evaluation_images(seed=0)]
    assert all(torch.equal(a.x, b.x) for a, b in zip(shown, again, strict=True))


def test_the_teacher_alone_is_told_what_its_own_view_tells(colours: Path) -> None:
    task = task_of(restored(colours, student=[DARK], teacher=[HOLES]))
    (batch,) = islice(task.batches(batch_size=4, seed=0), 1)
    assert batch.cond.keys() == {"sigma", "stops"}
    assert batch.teacher_cond is not None
    assert batch.teacher_cond.keys() == {"sigma", "stops", "mask"}
    assert batch.teacher_cond["stops"].abs().max() == 0, "the teacher's images are not dark"
    asked = batch.for_teacher()
    assert (asked.teacher_x, asked.teacher_cond) == (None, None)
    parts = batch.to(torch.device("cpu")).split(2)
    mask = torch.cat([part.for_teacher().cond["mask"] for part in parts])
    assert torch.equal(mask, asked.cond["mask"])
    cut = drawn(batch, crop=8, turn=True, random=generator(0)).batch(batch).for_teacher()
    assert cut.cond["mask"].shape == (4, 1, 8, 8)
    assert cut.x[cut.cond["mask"].expand_as(cut.x) > 0].abs().max() == 0, "the mask is cut and turned as the image is"


def test_what_is_told_of_damage_before_a_view_is_told_with_that_of_the_view(colours: Path) -> None:
    noise = {"name": "noise", "args": {"sigma": 12}}
    task = task_of(restored(colours, student=[noise]))
    (batch,) = islice(task.batches(batch_size=4, seed=0), 1)
    student, teacher = (255 / 2 * each.cond["sigma"][0].item() for each in (batch, batch.for_teacher()))
    assert (student, teacher) == (pytest.approx(13), pytest.approx(5)), "of noise the variances add: 5, 12, 13"
    assert float((batch.x - batch.y).std()) * 255 / 2 == pytest.approx(13, rel=0.1)
    (_, shown), *_ = task._evaluation_images(seed=0)
    assert float(shown.cond["sigma"]) == pytest.approx(2 * 13 / 255)
    anew = task.resample_noise(batch, seed=5)
    assert float((anew.for_teacher().x - batch.y).std()) * 255 / 2 == pytest.approx(5, rel=0.1)
    assert torch.equal(anew.cond["sigma"], batch.cond["sigma"])
    filled = {"task": {"name": "restore", "args": {**restored(colours)["task"]["args"], "damages": [HOLES]}}}
    (batch,) = islice(task_of({**filled, "student": [HOLES]}).batches(batch_size=4, seed=0), 1)
    missing = batch.for_teacher().cond["mask"]
    assert missing.sum() > 0, "what the task itself hides is told, whatever the student does not see beside"
    assert (batch.cond["mask"] >= missing).all()
    other = nn.Identity()
    task.show(other, "other", {"view": [{"name": "noise", "args": {"sigma": 3}}]})
    assert float(task.shown_to(other, shown).cond["sigma"]) == pytest.approx(2 * 34**0.5 / 255), (
        "its own and the task's"
    )
    both = task_of(restored(colours, student=[noise], teacher=[noise, "grey"]))
    (batch,) = islice(both.batches(batch_size=4, seed=0), 1)
    assert both.resample_noise(batch, seed=5) is batch


class Told(nn.Module):
    """Gives what it is told is missing, or nothing."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return mask.expand_as(x)


def test_answers_on_disk_are_to_the_teachers_own_view_and_conditions(colours: Path, tmp_path: Path) -> None:
    task = task_of(restored(colours, student=[DARK], teacher=[HOLES]))
    teacher = Teacher(Told(), next(task.batches(batch_size=2, seed=0)), device=torch.device("cpu"))
    cache = TeacherCache(task, CacheSpec(inputs=16, dir=str(tmp_path), augment=False), teacher=teacher)
    drain(cache.fill())  # type: ignore[arg-type]
    batch, answer = next(cache.batches(batch_size=8, seed=0))
    assert batch.teacher_cond is not None
    assert answer is not None
    assert torch.equal(answer.output[:, :1], batch.teacher_cond["mask"])
    assert "mask" not in batch.cond


def test_a_view_of_fewer_pixels_answers_as_large_as_before(colours: Path) -> None:
    task = task_of(restored(colours, student=[{"name": "shrink", "args": {"scale": 2}}]))
    (batch,) = islice(task.batches(batch_size=2, seed=0), 1)
    assert batch.x.shape[-2:] == (8, 8)
    assert task.answer_shape(batch) == (3, 16, 16)
    baseline = task.baseline(batch)
    assert baseline is not None
    assert baseline.shape == (2, 3, 16, 16)


def test_randomness_is_drawn_anew_where_the_images_as_they_are_are_known(colours: Path) -> None:
    plain = task_of(classes(colours, student=[DARK]))
    (batch,) = islice(plain.batches(batch_size=4, seed=0), 1)
    anew = plain.resample_noise(batch, seed=5)
    assert not torch.equal(anew.x, batch.x)
    assert torch.equal(anew.for_teacher().x, batch.for_teacher().x)
    both = task_of(classes(colours, student=[DARK], teacher=[DARK]))
    (batch,) = islice(both.batches(batch_size=4, seed=0), 1)
    assert batch.teacher_x is None, "the two see the same"
    assert both.resample_noise(batch, seed=5) is batch


def test_cached_answers_come_with_the_students_view_drawn_anew_where_they_hold(colours: Path, tmp_path: Path) -> None:
    def drawn_twice(task: Views, home: str) -> tuple[list[Batch], bool]:
        teacher = Teacher(Hue(), next(task.batches(batch_size=2, seed=0)), device=torch.device("cpu"))
        cache = TeacherCache(task, CacheSpec(inputs=4, dir=str(tmp_path / home), augment=False), teacher=teacher)
        list(cache.fill())
        pairs = list(islice(cache.batches(batch_size=4, seed=0), 2))
        for batch, answer in pairs:
            assert answer is not None
            torch.testing.assert_close(answer.output, Hue()(batch.for_teacher().x), atol=2e-3, rtol=0)
        again = next(cache.batches(batch_size=4, seed=0, start=1))[0]
        assert torch.equal(again.x, pairs[1][0].x), "a batch hangs on the seed and its number alone"
        first, second = (batch.x[batch.for_teacher().x.mean((1, 2, 3)).argsort()] for batch, _ in pairs)
        return [batch for batch, _ in pairs], torch.equal(first, second)

    (first, _), same = drawn_twice(task_of(classes(colours, student=[DARK])), "clear")
    assert not same
    assert first.cond.keys() == {"stops"}
    assert drawn_twice(task_of(classes(colours, student=[DARK], teacher=[DARK])), "dark")[1], "both see the same night"
    assert drawn_twice(task_of(classes(colours, student=[DARK], teacher=["grey"])), "grey")[1]


def test_tasks_without_images_and_what_is_no_task_are_refused(colours: Path) -> None:
    with pytest.raises(UserError, match="views are of images, and nets of the task generate read none"):
        task_of({"task": {"name": "generate", "args": {"latent": 4}}})
    with pytest.raises(UserError, match="a task is described as"):
        task_of({"task": {"called": "denoise"}})
    with pytest.raises(UserError, match="no damage is called 'night'"):
        task_of(classes(colours, student=["night"]))


def test_a_batch_of_one_view_is_asked_as_it_is() -> None:
    batch = Batch(x=torch.zeros(2, 1, 4, 4), cond={"sigma": torch.ones(2)})
    assert batch.for_teacher() == batch


class Mean(nn.Module):
    """Remembers the mean of the images that it was shown."""

    conditions: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.shown = list[float]()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(float(x.mean()))
        return self.gain * x


def test_models_that_are_compared_see_the_images_each_its_own_way(tmp_path: Path) -> None:
    views: list[list[Any]] = [[], [DARK], ["grey"]]
    models = {name: Model(Mean(), name=name, channels=3, task={"name": "denoise", "sigma": 5, "view": view})
              for name, view in zip(("plain", "dark", "grey"), views, strict=True)}  # fmt: skip
    for order in (("plain", "dark", "grey"), ("dark", "plain", "grey")):
        _, task = measuring_task({name: models[name] for name in order}, None)
        means = {}
        for name in order:
            models[name].net.shown.clear()
            task.evaluate(models[name].net, limit=1)
            means[name] = models[name].net.shown[0]
        assert means["dark"] < means["plain"] - 0.2, "the dark one sees the dark"
        assert means["grey"] == pytest.approx(means["plain"], abs=0.1)
        said = str(task.describe_evaluation())
        assert f"seen {'as they are' if order[0] == 'plain' else 'through dark'}" in said
        assert "grey sees them through grey" in said
    nets = {name: model.net for name, model in models.items()}
    for net in nets.values():
        net.shown.clear()
    sample_grids.samples(tmp_path / "sheet.png", task, nets, limit=1)
    assert nets["dark"].shown[0] < nets["plain"].shown[0] - 0.2, "on the sheet too"


def test_models_without_views_are_measured_by_the_task_itself() -> None:
    models = {name: Model(Mean(), name=name, channels=3, task={"name": "denoise", "sigma": 5}) for name in "ab"}
    assert not isinstance(measuring_task(models, None)[1], Views)
