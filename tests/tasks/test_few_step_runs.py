"""Runs of few-step students: killed ladders, the best net beside the last, plain diffusers, and the command tried small."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support import EACH_STEP, call, drain, kill_when, trained

from kdgen import preset
from kdgen.models.model import Model, build_net, load
from kdgen.recipe import Recipe, override, parse
from kdgen.registry import Spec, build
from kdgen.report import step_curve
from kdgen.training import run

TINY = {"size": 8, "block_out_channels": [8, 16], "attention_levels": 0, "mid_block": False}


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """The folder of a tiny diffusion model of 8x8 images, a pipeline of diffusers."""
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    net, use = build_net(Spec(name="unet2d", args=TINY), channels=1)
    task = {"name": "diffuse", "size": 8, "channels": 1}
    Model(net, name="tiny", channels=1, task=task, use=use).save(tmp_path / "teacher")
    return tmp_path / "teacher"


def small(name: str, teacher: Path, *settings: str) -> Recipe:
    """A preset for the tiny teacher, its student as tiny."""
    recipe = preset(name)
    scheduler = recipe.student.args["scheduler"]
    pipeline = recipe.student.args["pipeline"]
    student = {"name": "unet2d", "args": {**TINY, "scheduler": scheduler, "pipeline": pipeline}}
    told = {"images": {"name": "rollouts", "args": {"model": str(teacher), "num_images": 40, "num_steps": 3}},
            "size": 8, "num_images": 200, "num_steps": 3}  # fmt: skip
    data = recipe.model_dump(mode="json")
    data["task"]["args"] |= told
    data |= {"student": student, "teacher": data["teacher"] and str(teacher), "seconds": None, "steps": 30,
             "batch_size": 4, "precision": "float32", "device": "cpu", "evaluate_every": None}  # fmt: skip
    for assistant in data["assistants"]:
        assistant["student"] = student
    return override(parse(data), settings)


@pytest.mark.slow
def test_a_ladder_killed_between_and_inside_rungs_gives_the_same_student(teacher: Path, tmp_path: Path) -> None:
    recipe = small("progressive", teacher, f"checkpoint_every={EACH_STEP}", "steps=30", "task.args.steps=[1]")
    recipe = recipe.model_copy(update={"assistants": recipe.assistants[2:]})
    trained(run.distill(recipe, tmp_path / "whole"))
    folder = tmp_path / "run"
    kill_when(recipe, folder, lambda e: e["kind"] == "phase" and e["phase"] == "assistant_1")
    kill_when(recipe, folder, lambda e: e["kind"] == "checkpoint" and e["phase"] == "assistant_2" and e["step"] >= 3)
    trained(run.resume(folder))
    for phase in ("assistant_1", "assistant_2", "student"):
        home = ("assistants/" if phase != "student" else "") + phase
        name = "unet/diffusion_pytorch_model.safetensors"
        assert (folder / home / name).read_bytes() == (tmp_path / "whole" / home / name).read_bytes()


PLAIN = """
import sys
sys.modules["kdgen"] = None
import numpy, torch
from diffusers import DiffusionPipeline
folder, out = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder)
pipe.set_progress_bar_config(disable=True)
seeds = torch.randint(2**63 - 1, (6,), generator=torch.Generator().manual_seed(5)).tolist()
drawn = {f"steps{steps}": pipe(6, generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                               num_inference_steps=steps, output_type="np").images for steps in (1, 4)}
assert not [name for name in sys.modules if name.startswith("kdgen.")]
numpy.savez(out, **drawn)
"""


@pytest.mark.parametrize("name", ["consistency", pytest.param("rectified-flow", marks=pytest.mark.slow)])
def test_plain_diffusers_draws_the_same_without_kdgen(name: str, teacher: Path, tmp_path: Path) -> None:
    drain(run.distill(small(name, teacher), tmp_path / "run"))
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "run" / "student"), str(tmp_path / "plain.npz")]
    subprocess.run(command, check=True, env=env, cwd=tmp_path)
    plain = np.load(tmp_path / "plain.npz")
    student = load(tmp_path / "run")
    for steps in (1, 4):
        theirs = torch.from_numpy(plain[f"steps{steps}"]).movedim(-1, 1) * 2 - 1
        assert torch.equal(theirs, student.draw(6, seed=5, num_steps=steps))
    assert not torch.equal(student.draw(6, seed=5, num_steps=1), student.draw(6, seed=5, num_steps=4))


def test_the_best_by_quick_evaluations_is_kept_beside_the_last(teacher: Path, tmp_path: Path) -> None:
    recipe = small("consistency", teacher, "evaluate_every=0.01", "steps=6")
    events = drain(run.distill(recipe, tmp_path / "run"))
    seen = [(e.data["fd_features32"], e.step) for e in events if e.kind == "evaluate"]
    kept = json.loads((tmp_path / "run" / "best" / "student" / "best.json").read_text())
    assert len(seen) > 2
    assert (kept["figure"], kept["step"]) == min(seen)
    task, best = build("task", recipe.task), load(tmp_path / "run" / "best" / "student")
    figures = task.evaluate(best.net, reference=load(teacher).net, limit=task.quick_eval_images)
    assert figures["fd_features32"] == pytest.approx(min(seen)[0], rel=1e-4)


def test_a_run_says_at_its_start_where_its_loss_lives(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(small("consistency", teacher, "steps=2").to_json())
    assert call("distill", str(file), "--out", str(tmp_path / "run")) == 0
    assert "the loss of consistency normally lies between" in capsys.readouterr().err


def test_small_and_few_has_a_quarter_of_the_cost_and_norms_of_several_channels() -> None:
    from kdgen.metrics import cost

    whole, narrow = (build_net(preset(name).student, 1)[0] for name in ("consistency", "small-and-few"))
    x, sigma = torch.zeros(1, 1, 32, 32), {"sigma": torch.ones(1)}
    assert cost.macs(whole, x, sigma) > 3.9 * cost.macs(narrow, x, sigma)
    norms = [module for module in narrow.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms
    assert all(norm.num_channels >= 4 * norm.num_groups for norm in norms)


def test_compare_draws_the_curve_of_steps(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drain(run.distill(small("consistency", teacher, "steps=2"), tmp_path / "run"))
    out, short = tmp_path / "out", partial(step_curve.step_curve, steps=(1, 3), num_images=30)
    monkeypatch.setattr(step_curve, "step_curve", short)
    assert call("compare", str(tmp_path / "run"), "--teacher", str(teacher), "--out", str(out)) == 0
    points = json.loads((out / "steps.json").read_text())
    shown = [(p["model"], p["steps"], p["calls"]) for p in points]
    assert shown == [("tiny", 1, 1), ("tiny", 3, 3), *((str(tmp_path / "run"), n, n) for n in (1, 2, 4))]
    assert all(p["seconds"] > 0 and {"fd_features32", "precision", "recall"} <= p["figures"].keys() for p in points)
    assert (out / "steps.png").read_bytes().startswith(b"\x89PNG")
