"""Views around tasks that have views or parts themselves, and nets that see otherwise than students of the task."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from seeing import DARK, HOLES, classes, exposed, restored, task_of
from torch import Tensor, nn

from kdgen import registry
from kdgen.data.pictures import to_grey
from kdgen.models.model import Model
from kdgen.registry import Spec
from kdgen.report.compare import Contender, assess, measure
from kdgen.tasks.abilities import Showing
from kdgen.tasks.compatibility import check_fit
from kdgen.tasks.infer_task import measuring_task
from kdgen.tasks.parties import Party
from kdgen.types import Batch, Task, UserError

DIM = {"name": "dark", "args": {"gain": 0.3, "gamma": 1, "noise": 0}}


def harden(task: Mapping[str, Any], **args: Any) -> dict[str, Any]:
    return {"name": "harden", "args": {"task": task, "damages": [DIM], "share": 1.0, **args}}


def views(described: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "views", "args": described}


def built(described: Mapping[str, Any]) -> Task:
    task: Task = registry.build("task", Spec.model_validate(described))
    return task


def images_of(task: Task | Mapping[str, Any]) -> list[tuple[str, Batch]]:
    task = task if isinstance(task, Task) else built(task)
    assert isinstance(task, Showing)
    return [*task.evaluation_images(limit=4)]


def batch_of(task: Task) -> Batch:
    return next(task.batches(batch_size=4, seed=0))


@pytest.mark.parametrize("order", ["harden around views", "views around harden", "views around views"])
def test_all_views_of_a_student_are_drawn_anew_where_tasks_wrap_each_other(order: str, colours: Path) -> None:
    within = classes(colours)["task"]
    task = built({
        "harden around views": harden(views({"task": within, "student": ["grey"]})),
        "views around harden": views({"task": harden(within), "student": ["grey"]}),
        "views around views": views({"task": views({"task": within, "student": [DIM]}), "student": ["grey"]}),
    }[order])  # fmt: skip
    batch = batch_of(task)
    for anew in (task.resample_view(batch, seed=1), task.resample_noise(batch, seed=1)):
        assert anew.teacher_x is not None
        assert batch.teacher_x is not None
        assert torch.equal(anew.teacher_x, batch.teacher_x)
        torch.testing.assert_close(anew.x[:, 0], anew.x[:, 2])
        grey = to_grey(batch.teacher_x)
        assert (anew.x[:, :1] - grey).abs().mean() > 0.02, "dim too"
        torch.testing.assert_close(anew.x, batch.x)


def test_views_within_views_are_told_as_one(colours: Path) -> None:
    within = classes(colours, student=["blur"], teacher=["contrast"])
    twice = str(built(views({"task": views(within), "student": ["grey"]})).describe_evaluation(reference=nn.Identity()))
    assert twice.count("Its images are seen") == 1
    assert "through blur, grey by students and controls, and through contrast by the teacher." in twice
    shifted = str(built(views({"task": harden(views(within)), "student": ["grey"]})).describe_evaluation())
    assert shifted.index("through blur") < shifted.index("@shifted") < shifted.index("through grey")


def test_a_view_within_that_the_teachers_view_hides_stays_as_it_is(colours: Path) -> None:
    within = views({"task": classes(colours)["task"], "student": ["noise"]})
    task = task_of({"task": within, "teacher": [DARK]})
    batch = batch_of(task)
    assert torch.equal(task.resample_noise(batch, seed=1).x, batch.x)
    assert torch.equal(task.resample_view(batch, seed=1).x, batch.x)


def test_an_assistant_sees_what_students_do_through_all_that_wraps(colours: Path) -> None:
    task = built(harden(views({"task": classes(colours)["task"], "student": ["grey"]})))
    among = task.among_students()
    shown = batch_of(among).for_teacher().x
    assert torch.equal(shown[:, 0], shown[:, 2])
    assert not torch.equal(batch_of(task).for_teacher().x, shown)
    assert among.fingerprint() != task.fingerprint()
    task.resample_view(batch_of(task), seed=1)
    batch = batch_of(task.among_students())
    torch.testing.assert_close(task.among_students().resample_view(batch, seed=1).x, batch.x)
    plain = built(harden(classes(colours)["task"]))
    assert plain.among_students() is plain


def test_among_teachers_any_net_is_measured_in_the_teachers_view(colours: Path) -> None:
    class Hue(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    task = task_of(classes(colours, student=["grey"]))
    assert task.evaluate(Hue(), reference=Hue())["accuracy"] < 0.6
    assert task.among_teachers().evaluate(Hue(), reference=Hue())["accuracy"] == 1


def test_what_both_tell_adds_up_and_is_part_of_what_answers_hang_on(colours: Path) -> None:
    denoise = {"name": "denoise", "args": {"sigma": 5, "channels": 3, "patch": 16}}
    told = task_of({"task": denoise, "student": ["noise"]})
    untold = task_of({"task": denoise, "student": [DARK]})
    known = (f"{told.inner.fingerprint()}{told._described()}", f"{untold.inner.fingerprint()}{untold._described()}")
    assert told.fingerprint() != _hash(known[0])
    assert untold.fingerprint() == _hash(known[1])


def _hash(known: str) -> str:
    return hashlib.sha256(known.encode()).hexdigest()


SHRINK = {"name": "shrink", "args": {"scale": 2}}


@pytest.mark.parametrize(
    ("within", "student", "teacher"),
    [([HOLES], [SHRINK], []), ([HOLES], [SHRINK, HOLES], []), ([HOLES, SHRINK], ["grey"], []), (["noise"], [], [HOLES, SHRINK]),
     (["noise"], [HOLES], [SHRINK]), (["noise"], [{"name": "one_of", "args": {"damages": [[HOLES, SHRINK], SHRINK]}}], [])],
)  # fmt: skip
def test_what_is_missing_is_told_of_the_pixels_that_there_are(
    within: list[Any], student: list[Any], teacher: list[Any], colours: Path
) -> None:
    task = restored(colours, student=student, teacher=teacher)
    task["task"]["args"]["damages"] = within
    batch = batch_of(task_of(task))
    for seen in (batch, batch.for_teacher()):
        if "mask" in seen.cond:
            assert seen.cond["mask"].shape[-2:] == seen.x.shape[-2:]
    if within == [HOLES] and student == [SHRINK]:
        torch.testing.assert_close(batch.cond["mask"], nn.functional.max_pool2d(batch.for_teacher().cond["mask"], 2))


class Sized(nn.Module):
    """Gives three logits of images of so many channels, or three channels enlarged."""

    def __init__(self, channels: int, scale: int | None = None) -> None:
        super().__init__()
        self.layer, self.scale = nn.Conv2d(channels, 3, 1), scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out.mean((2, 3)) if self.scale is None else nn.functional.interpolate(out, scale_factor=self.scale)


def test_a_further_teacher_answers_as_large_as_the_first_where_the_student_sees_fewer_pixels(colours: Path) -> None:
    use = Spec(name="views", args=restored(colours, student=[{"name": "shrink", "args": {"scale": 2}}]))
    task = built(use.model_dump())
    parties = [Party(called=key, net=Sized(3, scale), key=key)
               for key, scale in (("teacher", 1), ("teachers.b", 1), ("student", 2))]  # fmt: skip
    check_fit(use, task, [batch_of(task)], parties)
    with pytest.raises(
        UserError, match=r"teacher a was made to classify.*set teacher to a model that was made to rest"
    ):
        check_fit(use, task, [batch_of(task)],
                  [Party(called="the teacher a", net=Sized(3, 1), key="teacher", made_for={"name": "classify"})])  # fmt: skip


def test_a_segmenter_that_sees_fewer_pixels_answers_at_any_stride(colours: Path) -> None:
    images = {"name": "folder", "args": {"path": str(colours)}}
    segment = {"name": "segment", "args": {"images": images, "num_classes": 3, "patch": 16}}
    use = Spec(name="views", args={"task": segment, "student": [{"name": "shrink", "args": {"scale": 2}}]})
    task = built(use.model_dump())
    check_fit(use, task, [batch_of(task)], [Party(called="s", net=Sized(3, 1), key="student")])


def test_a_teacher_and_others_with_stacks_of_their_own_are_measured_on_them(colours: Path) -> None:
    task = classes(colours)["task"]
    facts = {"name": "classify", "num_classes": 3, "size": 16, "channels": 3}
    single, burst = (Model(Sized(3 * count), name=name, channels=3 * count,
                           task={**facts, "view": [exposed(count)]})
                     for name, count in (("single", 1), ("burst", 4)))  # fmt: skip
    _, against = measuring_task({"single": single}, task["args"]["images"], teacher=burst)
    assert "burst sees them through exposures" in against.describe_evaluation(reference=burst.net)
    assert "by the teacher" not in against.describe_evaluation(reference=burst.net)
    row = measure("student", single.net, against, name="single", reference=burst.net, timed=False)
    assert "agreement" in row.metrics
    measured = measure("teacher", burst.net, against, name="burst", reference=burst.net, timed=False)
    assert measured.macs == pytest.approx(4 * row.macs, rel=0.2)
    _, beside = measuring_task({"burst": burst, "single": single}, task["args"]["images"])
    nets = [Contender(role="model", name=each.name, net=each.net, label=each.name) for each in (burst, single)]
    assert [row.name for row in assess(beside, nets, title="both").rows] == ["burst", "single"]


def test_a_teacher_with_the_students_view_is_measured_in_it(colours: Path) -> None:
    facts = {"name": "classify", "num_classes": 3, "size": 16, "channels": 3, "view": [{"name": "grey", "args": {}}]}
    student, teacher = (Model(Sized(3), name=name, channels=3, task=facts) for name in ("a", "b"))
    _, task = measuring_task({"a": student}, classes(colours)["task"]["args"]["images"], teacher=teacher)
    alone = measuring_task({"b": teacher}, classes(colours)["task"]["args"]["images"])[1]
    assert task.evaluate(teacher.net, reference=teacher.net) == alone.evaluate(teacher.net)


def test_two_tasks_in_one_are_hardened_with_a_teacher_for_each(colours: Path) -> None:
    together = {"name": "together", "args": {"tasks": {
        "restore": {"name": "denoise", "args": {"sigma": 25, "patch": 16}}, "classify": classes(colours)["task"]}}}  # fmt: skip
    task = built(harden(together))
    batch = batch_of(task)
    assert batch.teacher_x is not None
    assert list(task.parts) == ["restore", "classify"]
    about = task.about(batch, "classify")
    assert about.teacher_x is batch.part_x["classify"]
    assert (batch.x - batch.teacher_x).abs().mean() > 0.02
    assert task.read(torch.rand(2, 6, 4, 4), "classify").shape == (2, 3)
    with pytest.raises(UserError, match="leave the view of teachers out"):
        built(harden(together, teacher="shifted"))
    within = {**together["args"]["tasks"], "classify": harden(classes(colours)["task"])}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="wrap together itself in the task harden"):
        built({"name": "together", "args": {"tasks": within}})


def test_a_teacher_of_stacks_is_hardened_and_measured_on_stacks(colours: Path) -> None:
    stacked = classes(colours, student=[exposed(1)], teacher=[exposed(2)])
    task, teacher = built(harden(views(stacked))), Sized(6)
    figures = task.evaluate(teacher, reference=teacher)
    assert {"accuracy", "accuracy@shifted"} <= figures.keys()
    assert "agreement" in task.evaluate(Sized(3), reference=teacher)


def test_images_that_nets_are_measured_on_are_shown_through_all_that_wraps(colours: Path) -> None:
    within = restored(colours)["task"]
    plain = {name: batch.x for name, batch in images_of(within)}
    dim = views({"task": within, "student": [DIM]})
    for described in (views({"task": dim, "student": ["grey"]}), harden(dim)):
        for number, (name, batch) in enumerate(images_of(described)):
            assert batch.teacher_x is not None
            hardened = described["name"] == "harden" and number % 2 == 1
            darker = (plain[name] - batch.teacher_x).mean() > 0.05
            assert darker == hardened, "the teacher sees by day, but where all are shifted"
            assert (plain[name] - batch.x).mean() > 0.05


def test_a_student_of_views_within_views_says_all_that_it_sees_through(colours: Path) -> None:
    def seen(task: Task) -> list[str]:
        return [each["name"] for each in task.describe()["view"]]  # type: ignore[union-attr, index, call-overload, misc]

    task = built(views({"task": views({"task": restored(colours)["task"], "student": [DIM]}), "student": ["grey"]}))
    assert seen(task) == ["dark", "grey"]
    torch.manual_seed(0)
    made = Model(Sized(3, 1), name="made", channels=3, task=task.describe())
    _, published = measuring_task({"made": made}, colours)
    (_, one), *_ = images_of(task)
    (_, other), *_ = images_of(published)
    torch.testing.assert_close(one.x, other.x)
    first = {"name": "channels", "args": {"keep": [0, 1, 2]}}
    stacked = built(views({"task": views(classes(colours, student=[exposed(2)])), "student": [first]}))
    assert (seen(stacked), stacked.describe()["channels"], stacked.channels) == (["exposures", "channels"], 3, 3)
