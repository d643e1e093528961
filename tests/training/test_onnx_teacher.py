"""From an ONNX file to a report by one command, and what such a teacher cannot be asked."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from support import call, drain

if find_spec("onnx") is None or find_spec("onnxruntime") is None:
    pytest.skip("no onnx here: pip install 'kdgen[onnx]'", allow_module_level=True)

from onnx_files import style

from kdgen.recipe import override, read
from kdgen.report.compare import Report
from kdgen.training import run

PHOTOS = '{"name": "folder", "args": {"path": "photos"}}'
FEW = ("--images", "photos", "--set", f"task.args.evaluate={PHOTOS}", "--set", "cache.inputs=16", "--set",
       "batch_size=4", "--steps", "4", "--quiet")  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = dice.integers(0, 256, (48, 52, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def wide(path, **options):
    """As ``style``, with enough to compute for a student to be ten times cheaper."""
    return style(path, end="clip", wasted=64, **options)


@pytest.mark.parametrize(("options", "patch"), [({}, 64), ({"size": (32, 32), "batch": 1}, 32)])
def test_a_file_alone_is_distilled_and_its_answers_are_all_that_is_learnt_from(options, patch, here, capsys):
    wide(here / "my style.onnx", **options)
    assert call("distill", "my style.onnx", *FEW, "--out", "run") == 0
    recipe = read(here / "run" / "recipe.json")
    assert (recipe.task.name, recipe.task.args["patch"], recipe.name) == ("translate", patch, "my-style-student")
    assert recipe.teacher == str(here / "my style.onnx")
    report = Report.read(here / "run")
    assert [row.role for row in report.rows] == ["input", "teacher", "student"]
    teacher, student = report.find("teacher"), report.find("student")
    assert teacher is not None
    assert student is not None
    assert teacher.num_params == 81 + 3 + 2 * 3 * 64 * 9
    assert teacher.macs >= 10 * student.macs > 0
    assert teacher.latency_ms > 0
    assert {"psnr@teacher", "perceptual@teacher"} <= student.metrics.keys()
    assert not any("bfloat16" in note or "int8" in note for note in report.notes)
    assert call("evaluate", "run", "--teacher", "my style.onnx", "--data", "photos") == 0
    assert call("restore", "my style.onnx", "photos", "styled") == 0
    assert call("resume", "run", "--quiet") == 0


def test_one_that_enlarges_is_distilled_as_an_upscaler(here, capsys):
    wide(here / "2x.onnx", scale=2)
    assert call("distill", "2x.onnx", *FEW, "--no-controls", "--out", "run") == 0
    recipe = read(here / "run" / "recipe.json")
    assert (recipe.task.name, recipe.student.name, recipe.student.args["scale"]) == ("restore", "compact", 2)
    assert "psnr_y" in next(row for row in Report.read(here / "run").rows if row.role == "teacher").metrics


def test_a_declaration_is_distilled_like_a_file(here, capsys):
    wide(here / "style.onnx", more=True)
    assert call("show", "style.onnx") == 2
    assert "strength" in capsys.readouterr().err
    (here / "half.json").write_text(json.dumps({"file": "style.onnx", "inputs": {"strength": 0.5}}))
    assert call("show", "half.json") == 0
    (here / "recipe.json").write_text(capsys.readouterr().out)
    assert read(here / "recipe.json").teacher == str(here / "half.json")


@pytest.mark.parametrize(("setting", "line"), [
    ('stages.0.methods=[{"name":"feature"}]', "OnnxModel has no layers that can be read"),
    ("precision=int8", "precision int8 is for a teacher that torch computes"),
    ("shard_teacher=true cache.inputs=0", "an ONNX file is held whole by each process"),
    ("init=teacher", "cannot start from"),
    ("init=copy", "cannot start from"),
    ("task.name=denoise", "was made to translate, and the task is denoise"),
])  # fmt: skip
def test_what_it_cannot_be_asked_is_refused_in_a_line(setting, line, here, capsys):
    wide(here / "style.onnx")
    assert (
        call(
            "distill",
            "style.onnx",
            *FEW,
            *(part for each in setting.split() for part in ("--set", each)),
            "--out",
            "run",
        )
        == 2
    )
    said = capsys.readouterr().err
    assert line in " ".join(said.split())
    assert "Traceback" not in said


def test_a_teacher_of_a_recipe_may_be_one_and_methods_ask_for_answers(here, make):
    wide(here / "style.onnx")
    task = {"name": "translate", "args": {"images": json.loads(PHOTOS), "evaluate": json.loads(PHOTOS), "patch": 16}}
    methods = [{"name": name} for name in ("output", "gradient", "jacobian", "upcycling", "perceptual")]
    recipe = override(make(), [f"task={json.dumps(task)}", "teacher=style.onnx", "steps=2", "student.args.width=4",
                               f"stages.0.methods={json.dumps(methods)}"])  # fmt: skip
    drain(run.distill(recipe, here / "run"))
    assert Report.read(here / "run").find("student") is not None
