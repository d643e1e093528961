"""What of a run does not hang on how fast the machine is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import call, drain, trained, weights

from kdgen.presets import preset
from kdgen.presets.steps import STEPS, repeatable
from kdgen.recipe import Recipe
from kdgen.training import run, trainer
from kdgen.training.run_log import Journal
from kdgen.types import UserError

Make = Callable[..., Recipe]


def evaluated(recipe: Recipe, folder: Path) -> list[int]:
    return [
        event.step for event in run.distill(recipe, folder) if event.kind == "evaluate" and event.phase == "student"
    ]


def test_a_run_in_steps_is_looked_at_at_fixed_steps(make: Make, tmp_path: Path) -> None:
    for every in ("0.001", "1000"):
        assert evaluated(make(f"evaluate_every={every}", "controls=false"), tmp_path / every) == [3, 6, 9]
    assert evaluated(make("evaluate_every=null", "controls=false"), tmp_path / "none") == []


def test_what_a_timing_found_does_not_matter_to_a_repeatable_run(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pays in (True, False):
        monkeypatch.setattr(run, "bfloat16_pays", lambda device, pays=pays: pays)
        for kind in ("repeatable=true", "repeatable=false"):
            recipe = make("controls=false", "precision=auto", kind)
            trained(run.distill(recipe, tmp_path / f"{kind}-{pays}"))
    assert weights(tmp_path / "repeatable=true-True") == weights(tmp_path / "repeatable=true-False")
    assert weights(tmp_path / "repeatable=false-True") != weights(tmp_path / "repeatable=false-False")


def test_a_repeatable_run_does_not_try_which_way_of_asking_is_faster(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []
    monkeypatch.setattr(trainer, "threads_for", lambda *nets: tries.append(True) or 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for kind in ("true", "false"):
            recipe = make("controls=false", "cache.inputs=0", "steps=2", f"repeatable={kind}")
            trained(run.distill(recipe, tmp_path / kind))
            assert len(tries) == (kind == "false")
    finally:
        torch.set_num_threads(before)


def test_what_cannot_be_repeated_is_refused(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="repeatable needs steps"):
        make("seconds=5", "repeatable=true")
    assert call("distill", "denoise", "--repeatable", "--seconds", "5") == 2
    assert call("distill", "gan-gpu", "--repeatable") == 2
    assert "give --steps N" in " ".join(capsys.readouterr().err.split())


def test_every_preset_that_is_said_to_be_repeatable_is() -> None:
    for name, steps in STEPS.items():
        recipe = repeatable(preset(name))
        assert (recipe.name, recipe.steps, recipe.seconds, recipe.repeatable) == (name, steps, None, True)
    with pytest.raises(UserError, match="give --steps N"):
        repeatable(preset("gan-gpu"))


def edited(folder: Path, **changes: object) -> None:
    recipe = json.loads((folder / "recipe.json").read_text())
    for key, value in changes.items():
        where, (*path, last) = recipe, key.split("__")
        for part in path:
            where = where[int(part) if part.isdigit() else part]
        where[last] = value
    (folder / "recipe.json").write_text(json.dumps(recipe))


def begun(recipe: Recipe, folder: Path) -> None:
    running = run.distill(recipe, folder)
    next(event for event in running if event.kind == "checkpoint" and event.step >= 3)
    running.close()


def test_a_begun_run_refuses_an_edited_recipe(make: Make, tmp_path: Path) -> None:
    begun(make("controls=false"), tmp_path / "run")
    as_begun = (tmp_path / "run" / "recipe.json").read_text()
    for key, value, said in (
        ("student__args__width", 12, "student.args.width was 16 and is 12"),
        ("task__args__sigma", 50, "task.args.sigma was 25 and is 50"),
        ("steps", 24, "steps was 12 and is 24"),
        ("stages__0__lr", 1.0, "stages.0.lr was 0.002 and is 1.0"),
        ("batch_size", 8, "batch_size was 4 and is 8"),
    ):
        (tmp_path / "run" / "recipe.json").write_text(as_begun)
        edited(tmp_path / "run", **{key: value})
        with pytest.raises(UserError, match="edited after its run began") as error:
            drain(run.resume(tmp_path / "run"))
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "student").exists()


def test_what_no_student_learns_from_may_change_in_mid_run(make: Make, tmp_path: Path) -> None:
    trained(run.distill(make("controls=false"), tmp_path / "whole"))
    begun(make(), tmp_path / "run")
    edited(tmp_path / "run", controls=False, checkpoint_every=60, cache__max_gib=2)
    drain(run.resume(tmp_path / "run"))
    assert not (tmp_path / "run" / "controls").exists()
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_timings_that_a_power_cut_emptied_are_made_anew(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("precision=auto", "repeatable=true"), tmp_path / "run"))
    for left in ("", "{", "[]"):
        before = Journal(tmp_path / "run").state.model_dump()
        (tmp_path / "run" / "state.json").write_text(left)
        (tmp_path / "run" / "report.json").unlink()
        assert drain(run.resume(tmp_path / "run"))[-1].kind == "done"
        after = Journal(tmp_path / "run").state.model_dump()
        for phase, known in before["phases"].items():
            for what in ("seconds", "answers"):
                assert after["phases"][phase].pop(what) == pytest.approx(known.pop(what), abs=0.05)
        assert after == before
        assert (tmp_path / "run" / "report.json").is_file()
