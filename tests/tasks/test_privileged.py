"""Teachers that know more than their students, through whole runs: several exposures, a map."""

import hashlib
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from privileged import (
    PHOTOGRAPH,
    SIZE,
    WITH_MAP,
    accuracies,
    built,
    classes,
    first_layer,
    one_exposure,
    photographs,
    pictured,
    recipe,
    stacks,
    viewed,
)
from support import drain
from torch import Tensor, nn

import kdgen
from kdgen import registry
from kdgen.data.damages import make_damages
from kdgen.models.config import read_config
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import UserError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictured(tmp_path_factory.mktemp("pictures"))


def test_a_teacher_of_several_exposures_is_trained_on_stacks_and_teaches_a_student_of_one(
    folders: Path, tmp_path: Path
) -> None:
    inner = classes(photographs(folders))
    of_four = viewed(inner, student=one_exposure(4))
    drain(run.distill(recipe(tmp_path, of_four, steps=40), tmp_path / "teacher"))
    assert first_layer(tmp_path / "teacher")[1] == 12
    config = read_config(tmp_path / "teacher" / "student")
    assert (config.channels, config.task["channels"], config.task["view"]) == (12, 3, one_exposure(4))
    taught = viewed(inner, student=one_exposure(), teacher=one_exposure(4))
    task = built(taught)
    assert (task.channels, task.teacher_channels) == (3, 12)
    (batch,) = islice(task.batches(batch_size=4, seed=0), 1)
    assert batch.teacher_x is not None
    assert torch.equal(batch.x, batch.teacher_x[:, :3]), "the student's exposure is one of its teacher's"
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher")), tmp_path / "run"))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == accuracies(tmp_path / "teacher")["student"] > 0.9
    assert {row.role: row.unshifted["accuracy"] for row in kdgen.shift(str(tmp_path / "run")).rows[1:]} == found
    assert first_layer(tmp_path / "run")[1] == 3
    measured = kdgen.evaluate(str(tmp_path / "teacher" / "student"), data=folders / "colour")
    assert measured.metrics["accuracy"] > 0.9, "measured on stacks of ordinary photographs"


class Mean(nn.Module):
    """One image of several exposures."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, 3, *x.shape[2:]).mean(1)


def test_several_exposures_are_restored_to_one_image_and_have_no_baseline(folders: Path, tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": str(folders / "colour")}}
    slight = [{"name": "noise", "args": {"sigma": 1}}]
    restore = {"name": "restore", "args": {"damages": slight, "images": images, "evaluate": images, "patch": SIZE}}
    task = built(viewed(restore, student=one_exposure(4)))
    (batch,) = islice(task.batches(batch_size=2, seed=0), 1)
    assert (batch.x.shape[1], task.answer_shape(batch)) == (12, (3, SIZE, SIZE))
    assert task.baseline(batch) is None
    same = recipe(tmp_path, viewed(restore, student=one_exposure(4)), student={"name": "dncnn", "args": {"width": 4}})
    with pytest.raises(UserError, match=r"gives 12x16x16, and the task views 3x16x16: set student to another$"):
        drain(run.distill(same, tmp_path / "same"))
    taught = viewed(restore, student=one_exposure(), teacher=one_exposure(4))
    small: dict[str, Any] = {
        "student": {"name": "dncnn", "args": {"width": 4, "depth": 3}},
        "stages": [{"methods": [{"name": "output"}]}],
    }
    plan = recipe(tmp_path, taught, teacher="mean", **small)
    drain(run.distill(plan, tmp_path / "run", teacher=Mean()))
    found = accuracies(tmp_path / "run", "psnr")
    assert found["teacher"] == pytest.approx(found["input"] + 6, abs=1), "a quarter of the variance"
    assert (tmp_path / "run" / "samples.png").is_file()


def test_a_teacher_that_reads_a_map_beside_the_photograph_teaches_a_student_that_reads_none(
    folders: Path, tmp_path: Path
) -> None:
    inner = classes(stacks(folders), channels=5)
    drain(run.distill(recipe(tmp_path, viewed(inner, student=WITH_MAP), steps=40), tmp_path / "teacher"))
    assert read_config(tmp_path / "teacher" / "student").channels == 4
    taught = viewed(inner, student=PHOTOGRAPH, teacher=WITH_MAP)
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher")), tmp_path / "run"))
    found = accuracies(tmp_path / "run")
    assert found["teacher"] > 0.9
    assert {row.role: row.unshifted["accuracy"] for row in kdgen.shift(str(tmp_path / "run")).rows[1:]} == found
    config = read_config(tmp_path / "run" / "student")
    assert (config.channels, config.task["channels"], "view" in config.task) == (3, 3, False)
    measured = kdgen.evaluate(str(tmp_path / "run" / "student"), data=folders / "colour")
    assert measured.metrics["accuracy"] == pytest.approx(found["student"], abs=0.1), "on photographs without maps"


class Thermometer(nn.Module):
    """Tells classes by a map alone, where it was read."""

    conditions = frozenset({"mask"})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        assert x.shape[1] == 1
        heat = (x * (1 - mask)).sum((1, 2, 3)) / (1 - mask).sum((1, 2, 3))
        return 20 * torch.stack([-heat, heat], 1)


def test_a_teacher_of_the_map_alone_is_told_what_is_missing(folders: Path, tmp_path: Path) -> None:
    view = [{"name": "channels", "args": {"keep": [3], "mask": 4}}]
    taught = viewed(classes(stacks(folders), channels=5), student=PHOTOGRAPH, teacher=view)
    (batch,) = islice(built(taught).batches(batch_size=4, seed=0), 1)
    assert ([*batch.cond], [*batch.for_teacher().cond]) == ([], ["mask"])
    drain(
        run.distill(recipe(tmp_path, taught, steps=60, teacher="thermometer"), tmp_path / "run", teacher=Thermometer())
    )
    found = accuracies(tmp_path / "run")
    assert found["teacher"] == 1
    assert found["student"] > 0.9, "the colour of a photograph is that of its map"


READ = {"name": "channels", "args": {"keep": [3], "mask": 4}}
BOXES = {"name": "mask", "args": {"share": 0.3, "shape": "boxes"}}


def filled(folders: Path, *damages: Any) -> dict[str, Any]:
    """The task to fill holes of stacks."""
    images = stacks(folders)
    return {
        "name": "restore",
        "args": {"damages": [*damages], "images": images, "evaluate": images, "patch": SIZE, "channels": 5},
    }


def test_what_a_view_reads_as_missing_is_apart_from_what_the_task_within_hides(folders: Path) -> None:
    inner = filled(folders, BOXES)
    task = built(viewed(inner, teacher=[READ]))
    (batch,) = islice(task.batches(batch_size=4, seed=0), 1)
    hidden, missing = batch.cond["mask"], batch.for_teacher().cond["mask"]
    assert hidden.sum() < missing.sum(), "the readings that were never there too"
    assert torch.equal(missing, torch.maximum(hidden, (batch.x[:, 4:] < 1).float()))
    told = task._told_within(batch)
    assert told is not None
    assert torch.equal(told["mask"], hidden)
    both = built(viewed(inner, student=[READ], teacher=[READ, "contrast"]))
    (batch,) = islice(both.batches(batch_size=4, seed=0), 1)
    assert both.resample_noise(batch, seed=1) is batch, "what each of the two tells is not known any more"
    assert both.fingerprint() != hashlib.sha256(f"{both.inner.fingerprint()}{both._described()}".encode()).hexdigest()


@pytest.mark.parametrize("before", [["noise"], ["dark"], ["contrast"], [{"name": "shrink", "args": {"scale": 2}}]])
def test_a_mask_is_read_before_what_changes_the_channel_that_says_it(before: list[Any], folders: Path) -> None:
    inner = classes(stacks(folders), channels=5)
    name = str(before[-1] if isinstance(before[-1], str) else before[-1]["name"])
    with pytest.raises(UserError, match=f"channels: {name} changes the channel that says what was read.*before {name}"):
        built(viewed(inner, student=[*before, READ]))
    built(viewed(inner, student=[READ, *before]))
    area = {"name": "shrink", "args": {"scale": 2, "kernel": "area"}}
    task = built(viewed(inner, student=[area, READ]))
    (batch,) = islice(task.batches(batch_size=2, seed=0), 1)
    read_first = built(viewed(inner, student=[READ, area]))
    assert torch.equal(batch.cond["mask"], next(read_first.batches(batch_size=2, seed=0)).cond["mask"])


def test_a_mask_is_not_read_where_the_task_within_changes_the_channel_that_says_it(folders: Path) -> None:
    stacked = classes(stacks(folders), channels=5)
    harden = {"name": "harden", "args": {"task": stacked, "damages": ["noise"]}}
    for inner in (filled(folders, "noise"), harden, viewed(stacked, teacher=["dark"])):
        for view in ({"student": [READ]}, {"teacher": [READ]}):
            with pytest.raises(UserError, match=r"the task \w+ changes the channel.*: leave mask out"):
                built(viewed(inner, **view))
        built(viewed(inner, student=WITH_MAP))
    built({"name": "harden", "args": {"task": viewed(stacked, student=[READ]), "damages": ["noise"]}})
    whole = {"name": "channels", "args": {"keep": [0, 1, 2], "mask": 2}}
    for owner in (lambda: built(filled(folders, whole)), lambda: make_damages([{"name": "one_of", "args": {"damages": [whole, "noise"]}}])):  # fmt: skip
        with pytest.raises(UserError, match="views alone: leave mask of channels out"):
            owner()


def test_segmenters_read_stacks_and_their_students_photographs(folders: Path, tmp_path: Path) -> None:
    images = {
        "name": "label_maps",
        "args": {"images": stacks(folders), "labels": str(folders / "labels"), "classes": 2},
    }
    segment = {"name": "segment", "args": {"images": images, "channels": 5, "patch": SIZE}}
    net = {"name": "segmenter", "args": {"channels": 4, "classes": 2}}
    teacher = recipe(tmp_path, viewed(segment, student=WITH_MAP), student=net)
    drain(run.distill(teacher, tmp_path / "teacher"))
    taught = viewed(segment, student=PHOTOGRAPH, teacher=WITH_MAP)
    small = {**net, "args": {"channels": 3, "classes": 2}}
    drain(run.distill(recipe(tmp_path, taught, teacher=str(tmp_path / "teacher"), student=small), tmp_path / "run"))
    assert accuracies(tmp_path / "run", "miou").keys() == {"teacher", "student"}
    assert (tmp_path / "run" / "samples.png").is_file()
    with pytest.raises(UserError, match=r"the teacher.* does not take the images of the task views, 5x16x16"):
        drain(run.distill(recipe(tmp_path, viewed(segment), teacher=str(tmp_path / "teacher")), tmp_path / "wrong"))


def test_what_the_pages_say_of_these_teachers_works(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page, part in (("photos", "colour"), ("depth", "heat"), ("labels", "labels"), ("words.npz", "words.npz")):
        (tmp_path / page).symlink_to(folders / part)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    ours = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "photos/" in block]
    assert [each["name"] for each in ours] == ["burst", "single", "views", "views", "classify"]
    for each in ours:
        if "task" in each:
            short = {"steps": 2, "batch_size": 4, "device": "cpu", "evaluate_every": None, "controls": False}
            cache = {"inputs": 8, "dir": str(tmp_path / "cache")}
            drain(run.distill(parse({**each, **short, "cache": cache}), Path("runs") / each["name"]))
        else:
            next(registry.build("task", Spec.model_validate(each)).batches(batch_size=2, seed=0))


def test_a_net_of_the_wrong_channels_and_a_missing_channel_are_refused(folders: Path, tmp_path: Path) -> None:
    inner = classes(stacks(folders), channels=5)
    view = [{"name": "channels", "args": {"keep": [0, 5]}}]
    plan = recipe(tmp_path, viewed(inner, student=view))
    with pytest.raises(UserError, match=r"channels: there is no channel 5, the images have 5, from 0"):
        drain(run.distill(plan, tmp_path / "index"))
    with pytest.raises(UserError, match=r"have 5 channels, and the task 4: set task\.args\.channels to 5"):
        built(viewed(classes(stacks(folders), channels=4), student=PHOTOGRAPH)).evaluate(Thermometer())
