"""From a file of weights to a report by one command."""

import json
import math
from importlib.util import find_spec

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import call

from kdgen import registry
from kdgen.models import loading
from kdgen.models.adapters.restorer import open_restorer
from kdgen.models.model import load
from kdgen.models.nets.compact import compact
from kdgen.presets import preset
from kdgen.recipe import read
from kdgen.registry import Spec
from kdgen.report import inferred
from kdgen.report.propose import Search

pytestmark = pytest.mark.skipif(
    find_spec("spandrel") is None, reason="no spandrel here: pip install 'kdgen[restorers]'"
)


@pytest.fixture
def upscaler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(compact(width=16, depth=4, scale=2).state_dict(), tmp_path / "2x_mine.safetensors")
    return "2x_mine.safetensors"


def test_a_file_alone_is_distilled_and_the_students_file_opens_likewise(upscaler, tmp_path, monkeypatch):
    opened, few = [], ["--set", "cache.inputs=16", "--set", "batch_size=4", "--no-controls", "--steps", "6"]
    monkeypatch.setattr(loading, "open_restorer", lambda *of: opened.append(of[1]) or open_restorer(*of))
    assert call("distill", upscaler, "--cheaper", "4", *few, "--out", "run", "--quiet") == 0
    assert [path.name for path in opened] == [upscaler]
    recipe = read(tmp_path / "run" / "recipe.json")
    assert recipe.teacher == str(tmp_path / upscaler)
    assert (recipe.task.name, recipe.student.name) == ("restore", "compact")
    # weights drawn at random are farther from the truth than what they enlarge: they are what is wanted
    assert recipe.task.args["aim"] == "teacher"
    assert {stage.ratio.args["alpha"] for stage in recipe.stages} == {1.0}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["primary_metric"] == "psnr@teacher"
    rows = {row["role"]: row["metrics"] for row in report["rows"]}
    assert {"psnr_y", "psnr@teacher", "perceptual@teacher"} <= rows["student"].keys() & rows["input"].keys()
    assert "psnr@teacher" not in rows["teacher"]
    teacher, student = (next(row for row in report["rows"] if row["role"] == role) for role in ("teacher", "student"))
    assert teacher["macs"] >= 4 * student["macs"] > 0
    ours, theirs = load("run"), load("run/student/model.safetensors")
    x = torch.rand(1, 3, 21, 34) * 1.6 - 0.8
    with torch.inference_mode():
        torch.testing.assert_close(theirs.net(x), ours.net(x).clamp(-1, 1), atol=1e-5, rtol=0)


def test_a_teacher_that_is_named_in_its_place_is_the_one_that_teaches(upscaler, tmp_path):
    torch.manual_seed(1)
    save_file(compact(width=12, depth=2, scale=2).state_dict(), tmp_path / "other.safetensors")
    few = ["--set", "cache.inputs=16", "--set", "batch_size=4", "--no-controls", "--steps", "1"]
    assert call("distill", upscaler, *few, "--set", "teacher=other.safetensors", "--out", "run", "--quiet") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert next(row["name"] for row in report["rows"] if row["role"] == "teacher") == "other"


def test_a_declaration_is_distilled_and_restores_as_a_file_does(upscaler, tmp_path):
    task = {"name": "restore", "damages": [{"name": "shrink", "args": {"scale": 2}}]}
    net = {"name": "compact", "args": {"width": 16, "depth": 4, "scale": 2}}
    declared = {"name": "my 2x (old)", "file": upscaler, "net": net, "range": [-1, 1], "task": task}
    (tmp_path / "mine.json").write_text(json.dumps(declared))
    Image.new("RGB", (20, 16), "teal").save(tmp_path / "x.png")
    small = json.dumps({"name": "folder", "args": {"path": str(tmp_path), "whole": True}})
    few = ["--set", "cache.inputs=16", "--set", "batch_size=4", "--no-controls", "--steps", "2",
           "--set", "precision=float32", "--set", f"task.args.evaluate={small}"]  # fmt: skip
    assert call("distill", "mine.json", "--cheaper", "4", *few, "--quiet") == 0
    recipe = read(tmp_path / "runs" / "my-2x-old-student" / "recipe.json")
    assert (recipe.teacher, recipe.task.args["patch"]) == (str(tmp_path / "mine.json"), 64)
    for model in ("mine.json", str(tmp_path / "runs" / "my-2x-old-student")):
        assert call("restore", model, "x.png", "y.png") == 0
        with Image.open(tmp_path / "y.png") as larger:
            assert larger.size == (40, 32)


def test_a_student_is_as_small_as_its_time_asks_for(upscaler, monkeypatch):
    """Unless it is said how much cheaper it shall be, or it is trained by steps."""
    timed = []

    def slow(student, *rest):
        timed.append(student)
        return 0.004 * student.convs[0].out_channels ** 2

    monkeypatch.setattr(inferred, "step_seconds", slow)
    (_, usual), (_, short), (_, said) = (
        inferred.recipe_for(upscaler, **how)
        for how in ({"seconds": math.inf}, {"seconds": 90}, {"seconds": 90, "cheaper": inferred.CHEAPER})
    )
    assert usual == said
    assert short.share < usual.share <= 1 / inferred.CHEAPER
    assert 0.75 * 90 / slow(registry.build("net", short.use)) >= 0.8 * inferred.STEPS


def test_a_student_starts_from_the_bundled_one_that_fits_within_it_and_is_not_much_smaller(tmp_path):
    save_file(compact(width=96, depth=8, scale=4).state_dict(), tmp_path / "large.safetensors")
    task = registry.build("task", Spec(name="restore", args={"damages": [{"name": "shrink", "args": {"scale": 4}}]}))
    search, known = Search(load(tmp_path / "large.safetensors"), task), inferred.starts(task)
    starts = {}
    for size in [(24, 8), (30, 9), (16, 8), (32, 7), (48, 8)]:
        found = search.of(Spec(name="compact", args=dict(zip(("width", "depth"), size, strict=True), scale=4)))
        starts[size] = inferred.start_for(found, search, known)
    own = "upscale-x4-student"
    assert starts == {(24, 8): own, (30, 9): own, (16, 8): "random", (32, 7): "random", (48, 8): "random"}


def test_bundled_students_are_known_by_the_damage_they_undo():
    jpeg = [registry.build("task", each) for each in (preset("dejpeg").task, Spec(name="restore", args={
        "damages": [{"name": "jpeg", "args": {"quality": [5, 30]}}]}))]  # fmt: skip
    assert [[model.name for model in inferred.starts(task)] for task in jpeg] == [["dejpeg-student"], []]


def test_where_time_is_short_the_bundled_student_is_what_is_trained(tmp_path, monkeypatch):
    """Unless it is dearer than a tenth of the teacher."""
    monkeypatch.setattr(inferred, "step_seconds", lambda *rest: 1000.0)
    large, small = tmp_path / "large.safetensors", tmp_path / "small.safetensors"
    for file, width in ((large, 96), (small, 32)):
        save_file(compact(width=width, depth=8, scale=4).state_dict(), file)
    of_large, of_small = (inferred.recipe_for(str(file), seconds=10)[0] for file in (large, small))
    assert (of_large.student.args["width"], of_large.init) == (24, "upscale-x4-student")
    assert [stage.lr for stage in of_large.stages] == [inferred.GENTLY * stage.lr for stage in of_small.stages]
    assert 0 < of_large.cache.share < of_small.cache.share  # its steps are said to take a thousand seconds
    assert (of_small.student.args["width"] < 24, of_small.init) == (True, "random")
    fresh = inferred.recipe_for(str(large), seconds=10, fresh=True)[0]
    assert (fresh.init, fresh.stages, fresh.cache) == ("random", of_small.stages, of_small.cache)


def test_steps_take_longer_of_larger_students(upscaler):
    task = registry.build("task", inferred.recipe_for(upscaler, cheaper=4)[0].task)
    small, large = (inferred.step_seconds(compact(width=width, depth=8, scale=2), task, 16, 32) for width in (8, 64))
    assert 0 < small < large


def test_what_is_inferred_can_be_shown_and_changed(upscaler, tmp_path, capsys):
    assert call("show", upscaler) == 0
    shown = capsys.readouterr()
    (tmp_path / "mine.json").write_text(shown.out)
    assert read(tmp_path / "mine.json").name == "2x_mine-student"
    assert "times fewer MACs" in shown.err


@pytest.mark.parametrize(("arguments", "line"), [
    (["denoise", "--cheaper", "4"], "--cheaper, --images and --prompts are for a file"),
    (["nowhere.pth"], "no model at 'nowhere.pth'"),
    (["2x_mine.safetensors", "--cheaper", "100000"], "ask for that or more"),
])  # fmt: skip
def test_what_cannot_be_inferred_is_said_in_a_line(upscaler, arguments, line, capsys):
    assert call("distill", *arguments) == 2
    error = capsys.readouterr().err
    assert line in " ".join(error.split())
    assert "Traceback" not in error
