"""Students of teachers with classes: told them as the teacher is, or refused in a line before anything is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SMALL_UNET, call, drain, small_diffusion, taught_by

from kdgen.models.model import build_net, load
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import UserError

OUTPUT = {"name": "output"}


def recipe(teacher: str, student: dict[str, Any], **task: Any) -> dict[str, Any]:
    return taught_by(teacher, student, OUTPUT, "diffuse", **task)


def unet(**args: Any) -> dict[str, Any]:
    return {"name": "unet2d", "args": {**SMALL_UNET, **args}}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))


def test_the_student_of_a_teacher_with_classes_is_told_them_and_has_the_size_of_its_task(tmp_path: Path) -> None:
    teacher = small_diffusion(tmp_path / "t", num_class_embeds=5)
    drain(run.distill(parse(recipe(teacher, unet())), tmp_path / "run"))
    made: Any = load(tmp_path / "run")
    assert made.task["num_classes"] == 5
    assert (made.net.num_classes, made.net.size) == (5, 8)
    x, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    with torch.no_grad():
        said = [made.net(x, sigma=sigma, label=torch.full((2,), label)) for label in (0, 4)]
    assert not torch.equal(*said)
    assert made.draw(3, num_steps=2).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("teacher", "student", "task", "said"),
    [
        ({"num_class_embeds": 5}, unet(num_class_embeds=3), {}, "unet2d has num_class_embeds 3 and the task 5 classes"),
        ({"num_class_embeds": 5}, unet(num_class_embeds=None), {}, "'label', which this Unet2d does not read"),
        ({"num_class_embeds": 5}, unet(), {"num_classes": 0}, "is told one of 5 classes and the task tells none"),
        ({}, unet(size=16), {}, "unet2d has size 16 and the images of the task 8"),
        ({}, {"name": "dncnn", "args": {"depth": 3}}, {}, "'sigma', which this DnCNN does not read; nets that can: "),
    ],
)
def test_a_student_that_does_not_fit_is_refused_in_a_line(
    teacher: dict[str, Any],
    student: dict[str, Any],
    task: dict[str, Any],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = recipe(small_diffusion(tmp_path / "t", **teacher), student, **task)
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert call("distill", str(tmp_path / "r.json"), "--out", str(tmp_path / "run"), "--quiet") == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not list((tmp_path / "run").glob("*/*.safetensors"))


def test_a_teacher_of_fewer_classes_than_the_task_is_refused(tmp_path: Path) -> None:
    many, few = (
        small_diffusion(tmp_path / "many", num_class_embeds=5),
        small_diffusion(tmp_path / "few", num_class_embeds=3),
    )
    data = recipe(many, unet()) | {"teacher": few}
    with pytest.raises(UserError, match=r"few knows 3 classes and the task tells 5: set task.args.num_classes to 3"):
        drain(run.distill(parse(data), tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "task", "filled", "short"),
    [
        ("conv_generator", {"name": "generate", "latent": [6], "size": 8, "num_classes": 4},
         {"latent": 6, "size": 8, "num_classes": 4}, "num_classes"),
        ("mlp_generator", {"name": "generate", "latent": [2, 3], "size": 10, "num_classes": 4},
         {"latent": 6, "size": 10, "num_classes": 4}, "num_classes"),
        ("feature_net", {"name": "classify", "size": 32, "num_classes": 7}, {"classes": 7}, "classes"),
    ],
)  # fmt: skip
def test_what_a_recipe_leaves_open_is_the_tasks(
    name: str, task: dict[str, Any], filled: dict[str, int], short: str
) -> None:
    _, use = build_net(Spec(name=name), 1, task)
    assert {**use.args, **filled, "channels": 1} == use.args
    with pytest.raises(UserError, match=f"{name} has {short} 2 and the task {task['num_classes']} classes"):
        build_net(Spec(name=name, args={short: 2}), 1, task)
