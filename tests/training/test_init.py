"""First weights: random, the teacher's, or those of any model, which a student is trained further from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import call, drain
from torch import Tensor

from kdgen.models.hub_cache import pinned
from kdgen.models.model import Model, build_net
from kdgen.recipe import Recipe, override, parse
from kdgen.registry import Spec
from kdgen.report.report import Report
from kdgen.training import run

Make = Callable[..., Recipe]

STILL = ("stages.0.optimizer=sgd", "stages.0.lr=1e-12", "ema=0", "steps=2", "cache.inputs=8")
"""Settings under which nothing is learnt, so that last weights are first weights."""


def saved(home: Path, name: str = "dncnn", **args: Any) -> dict[str, Tensor]:
    """A model made elsewhere, in a folder, and its weights."""
    torch.manual_seed(3)
    net, use = build_net(Spec(name=name, args=args), channels=1)
    Model(net, name=home.name, channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(home)
    return load_file(home / "model.safetensors")


def made(folder: Path, phase: str = "student") -> dict[str, Tensor]:
    return load_file(folder / phase / "model.safetensors")


def same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.allclose(mine[key], theirs[key], atol=1e-6) for key in mine)


def test_a_student_and_its_controls_start_from_any_model_and_the_report_says_so(make: Make, tmp_path: Path) -> None:
    start = saved(tmp_path / "elsewhere", depth=3, width=16)
    drain(run.distill(make(*STILL, f"init={tmp_path / 'elsewhere'}"), tmp_path / "run"))
    assert same(made(tmp_path / "run"), start)
    assert same(made(tmp_path / "run" / "controls", "control_steps"), start)
    notes = " ".join(Report.read(tmp_path / "run").notes)
    assert "starts from the weights of elsewhere, and so do its controls" in notes
    assert "trained further from `" in (tmp_path / "run" / "student" / "README.md").read_text()


def test_a_run_is_gone_on_from_without_a_teacher_and_through_assistants(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("steps=3", "controls=false", "seed=5"), tmp_path / "first"))
    alone = override(make(*STILL), ["teacher=null", "stages.0.methods=[]", f"init={tmp_path / 'first'}"])
    drain(run.distill(alone, tmp_path / "alone"))
    assert same(made(tmp_path / "alone"), made(tmp_path / "first"))
    link = {"student": {"name": "dncnn", "args": {"depth": 3, "width": 16}}, "init": str(tmp_path / "first")}
    chain = parse({**make(*STILL, "steps=4").model_dump(mode="json"), "assistants": [link], "controls": False})
    drain(run.distill(chain, tmp_path / "chain"))
    assert same(made(tmp_path / "chain" / "assistants", "assistant_1"), made(tmp_path / "first"))
    assert not same(made(tmp_path / "chain"), made(tmp_path / "first"))


def test_a_declared_checkpoint_is_a_start_and_a_larger_one_gives_what_fits(make: Make, tmp_path: Path) -> None:
    start = saved(tmp_path / "wide", depth=3, width=20)
    torch.save(start, tmp_path / "wide.pth")
    spec = {"file": str(tmp_path / "wide.pth"), "net": {"name": "dncnn", "args": {"depth": 3, "width": 20}},
            "range": [-1, 1], "predicts": "residual"}  # fmt: skip
    recipe = parse({**make(*STILL, "controls=false").model_dump(mode="json"), "init": spec})
    drain(run.distill(recipe, tmp_path / "run"))
    mine = made(tmp_path / "run")
    strongest = start["0.weight"].abs().sum((1, 2, 3)).topk(16).indices.sort().values
    assert torch.allclose(mine["0.weight"], start["0.weight"][strongest], atol=1e-6)


@pytest.mark.parametrize("init", ["other", "teacher", "copy"])
def test_what_cannot_be_started_from_is_refused_in_a_line_before_anything_is_written(
    make: Make, tmp_path: Path, init: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "other", depth=3, width=8)
    named = str(tmp_path / "other") if init == "other" else init
    recipe = make(f"init={named}", "student.args.width=30")
    (tmp_path / "r.json").write_text(recipe.to_json())
    assert call("distill", str(tmp_path / "r.json"), "--out", str(tmp_path / "run"), "--quiet") == 2
    said = capsys.readouterr().err
    whose = {"other": "other", "teacher": "tiny", "copy": "tiny"}[init]
    why = "a copy is of the same net" if init == "copy" else "a student of depth 3 and width 30 is not within"
    assert said.startswith(f"kdgen: dncnn cannot start from {whose}: {why}")
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_ids_of_the_hub_are_bound_to_a_commit(make: Make) -> None:
    data = make().model_dump(mode="json")
    link = {"student": data["student"], "init": "hub:a/b"}
    recipe = parse({**data, "init": "hub:c/d@v1", "assistants": [link]})
    known = pinned(recipe, lambda named: "0" * 40)
    assert known.init == f"hub:c/d@{'0' * 40}"
    assert known.assistants[0].init == f"hub:a/b@{'0' * 40}"
    assert pinned(make(), lambda named: "0" * 40) == make()


def test_an_unknown_start_is_refused_as_an_unknown_teacher_is(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**json.loads(make().to_json()), "init": "nothing"}))
    assert call("distill", str(tmp_path / "r.json"), "--out", str(tmp_path / "run"), "--quiet") == 2
    assert "no model at 'nothing'" in capsys.readouterr().err
