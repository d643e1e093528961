"""A restorer's file alone, dropped into the app: what it is follows from its weights, and so does its recipe."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_own import MINE

from kdgen import registry
from kdgen.registry import Spec
from kdgen.report import inferred
from kdgen.types import UserError
from kdgen.ui import choices
from kdgen.ui.composing import Values, composed
from kdgen.ui.visitors import accept


def weights(path: Path, name: str, **args) -> Path:
    torch.manual_seed(0)
    save_file(registry.build("net", Spec(name=name, args=args)).state_dict(), path)
    return path


def compact(path: Path) -> Path:
    return weights(path, "compact", width=16, depth=4, scale=2)


def chosen(teacher: str) -> list:
    fields = [choices.value_at(choices.preset("denoise"), key) for key in choices.ADVANCED]
    return [
        "denoiser",
        "denoise",
        "quick",
        True,
        teacher,
        "",
        None,
        ["output"],
        "fixed",
        1.0,
        "seconds",
        30,
        *fields,
        "",
    ]


def test_a_restorers_file_needs_no_declaration_and_its_task_and_student_follow_from_it(models, runs, tmp_path):
    reference, about = models.bring([compact(tmp_path / "4x Photo (v2).safetensors")], None, MINE)
    assert about.task == "restore"
    assert "2 times" in about.notes[0]
    named = models.named(reference, MINE)[1]
    assert named.endswith("/4x-Photo-v2-.safetensors")
    assert models.task(reference, MINE, wait=900)["scale"] == 2
    recipe = composed(Values.of(chosen(reference)), MINE, models, wait=900)
    assert (recipe.task.name, recipe.seconds) == ("restore", 30)
    assert recipe.task.args["damages"] == [{"name": "shrink", "args": {"scale": 2}}]
    assert recipe.teacher == reference
    accepted = accept(recipe, MINE, runs)
    assert accepted.teacher == f"./own/{reference[4:]}/4x-Photo-v2-.safetensors"
    assert str(tmp_path) not in accepted.to_json()
    home = runs.home(runs.submit(accepted, MINE))
    assert [path.name for path in (home / "own").glob("*/*.safetensors")] == ["4x-Photo-v2-.safetensors"]


def test_an_onnx_file_needs_no_declaration_either(models, runs, tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx_files import style

    style(tmp_path / "My style!.onnx", end="clip", wasted=64)
    reference, about = models.bring([tmp_path / "My style!.onnx"], None, MINE)
    assert (about.name, about.task, about.count) == ("My style!", "translate", 81 + 3 + 2 * 3 * 64 * 9)
    assert "is an ONNX file" in about.notes[0]
    assert not (tmp_path / "My style!.onnx").exists()
    recipe = composed(Values.of(chosen(reference)), MINE, models, wait=900)
    assert (recipe.task.name, recipe.teacher, recipe.seconds) == ("translate", reference, 30)
    accepted = accept(recipe, MINE, runs)
    assert accepted.teacher == f"./own/{reference[4:]}/My-style-.onnx"
    home = runs.home(runs.submit(accepted, MINE))
    assert [path.name for path in (home / "own").glob("*/*.onnx")] == ["My-style-.onnx"]


def test_an_onnx_file_comes_with_a_declaration_of_what_it_does_not_say(models, tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx_files import style

    style(tmp_path / "a.onnx", more=True, end="clip", scale=4)
    with pytest.raises(UserError, match="reads more than an image: declare"):
        models.bring([tmp_path / "a.onnx"], None, MINE)
    (tmp_path / "a.json").write_text('{"file": "/etc/passwd", "inputs": {"strength": 1}}')
    reference, about = models.bring([tmp_path / "a.onnx", tmp_path / "a.json"], None, MINE)
    assert (about.name, about.task) == ("a", "restore")
    assert models.named(reference, MINE)[1].endswith("/checkpoint.json")
    assert models.task(reference, MINE, wait=900)["scale"] == 4


def test_what_stands_as_in_the_preset_follows_from_the_teacher_and_what_was_chosen_stays(models, tmp_path):
    reference, _ = models.bring([compact(tmp_path / "a.safetensors")], None, MINE)
    own = models.inferred(reference, MINE, wait=900)
    assert own.task.args["aim"] == "teacher"
    ratios = {kind: [name for name in choices.presets_of(kind) if choices.ratio_of(choices.preset(name))[1] < 1]
              for kind in choices.KINDS}  # fmt: skip
    other = choices.preset(next(name for names in ratios.values() for name in names))
    made = {"teacher": reference, "steps": None, "seconds": 30.0, "base": own,
            "settings": {key: choices.value_at(other, key) for key in choices.ADVANCED}}  # fmt: skip
    ratio, alpha = choices.ratio_of(other)
    recipe = choices.compose(other.name, methods=choices.methods_of(other), ratio=ratio, alpha=alpha, **made)
    assert recipe.stages == own.stages
    assert (recipe.batch_size, recipe.cache) == (own.batch_size, own.cache)
    settings = {**made["settings"], "batch_size": 3}
    changed = {**made, "settings": settings, "methods": ["output"], "ratio": "fixed", "alpha": 0.25}
    recipe = choices.compose(other.name, **changed)
    assert {stage.ratio.args["alpha"] for stage in recipe.stages} == {0.25}
    assert (recipe.batch_size, recipe.cache) == (3, own.cache)


def test_a_student_of_a_chosen_size_starts_from_none_that_does_not_fit(models, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(inferred, "step_seconds", lambda *rest: 1000.0)
    large = weights(tmp_path / "a.safetensors", "compact", width=96, depth=8, scale=4)
    reference, _ = models.bring([large], None, MINE)
    usual, smaller = (composed(replace(Values.of(chosen(reference)), share=share), MINE, models, wait=900)
                      for share in ("", "1/32"))  # fmt: skip
    assert (usual.init, usual.student.args["width"]) == ("upscale-x4-student", 24)
    assert (smaller.init, smaller.student.args["width"] < 24) == ("random", True)
    assert smaller.stages[0].lr > usual.stages[0].lr
    accept(smaller, MINE, runs)


def test_weights_that_nobody_knows_are_to_be_named(models, tmp_path):
    with pytest.raises(UserError, match="say it, or upload the config"):
        models.bring([weights(tmp_path / "mine.safetensors", "dncnn", channels=1)], None, MINE)


def test_without_spandrel_one_line_says_so(models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UserError, match="spandrel, which tells nets by their weights alone, is not installed here"):
        models.bring([compact(tmp_path / "a.safetensors")], None, MINE)


def test_what_is_no_safetensors_file_is_refused_before_anything_opens_it(models, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="no safetensors file"):
        models.bring([tmp_path / "a.safetensors"], None, MINE)
    assert models.runs.own.listed(MINE, "teacher") == {}
