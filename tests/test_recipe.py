"""Recipes as data: JSON in and out, unknown keys refused, settings applied, everything documented."""

import json
from pathlib import Path

import pytest

import kdgen.methods
import kdgen.models.nets
import kdgen.tasks
import kdgen.training.loss_weighting  # noqa: F401
from kdgen import presets
from kdgen.recipe import Recipe, override, parse, read
from kdgen.types import UserError
from kdgen.utils.schema import document

SMALL = {"name": "small", "task": {"name": "denoise"}, "student": {"name": "dncnn"}, "steps": 10}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "unknown key 'stepz'; the nearest: steps"),
        ({"stages": [{"lrr": 1}]}, "unknown key 'stages.0.lrr'; the nearest: lr"),
        ({"cache": {"inputz": 1}}, "unknown key 'cache.inputz'; the nearest: inputs"),
        ({"stages": [{"methods": [{"name": "output", "wieght": 1}]}], "teacher": "x"}, "the nearest: weight"),
        ({"teacher": {"file": "x", "net": {"name": "dncnn"}, "rang": [0, 1]}}, "unknown key 'teacher.rang'"),
        ({"teacher": {"file": "x", "net": {"name": "dncnn"}, "range": [255, 0]}}, "range is"),
        ({"seconds": 3}, "exactly one of steps and seconds"),
        ({"steps": None}, "exactly one of steps and seconds"),
        ({"stages": [{"methods": [{"name": "output"}]}]}, "methods need a teacher"),
        ({"init": "teacher"}, "needs a teacher"),
        ({"name": "../up"}, "name"),
        ({"stages": []}, "stages"),
        ({"ema": 1.5}, "ema"),
        ({"steps": float("nan")}, "steps"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=r"^recipe: ") as refused:
        parse({**SMALL, **change})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_reach_every_depth() -> None:
    recipe = override(
        parse({**SMALL, "stages": [{}, {}]}),
        ["seconds=30", "stages.1.lr=1e-4", "task.args.sigma=[0, 55]", "cache.dir=/somewhere", "controls=false"],
    )
    assert (recipe.steps, recipe.seconds) == (None, 30)
    assert [stage.lr for stage in recipe.stages] == [2e-3, 1e-4]
    assert recipe.task.args == {"sigma": [0, 55]}
    assert recipe.cache.dir == "/somewhere"
    assert recipe.controls is False


def test_a_one_digit_index_is_not_taken_for_the_last_part() -> None:
    recipe = parse({**SMALL, "teacher": "x", "stages": [{"methods": [{"name": "output"}]}]})
    changed = override(recipe, ['stages.0.methods.0={"name": "feature"}'])
    assert [term.name for term in changed.stages[0].methods] == ["feature"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "KEY=VALUE"),
        ("stages.7.lr=1", "'7' is not one of its 1 entries"),
        ("cach.inputs=1", "no key 'cach'; the nearest: cache"),
        ("steps.more=1", "nothing lies under"),
        ("batch_size=many", "batch_size"),
    ],
)
def test_bad_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        override(parse(SMALL), [setting])
    assert message in str(refused.value)


def test_the_control_differs_in_the_teacher_alone() -> None:
    recipe = presets.preset("denoise").model_copy(update={"init": "teacher"})
    control = recipe.without_teacher(steps=7)
    assert (control.teacher, control.steps, control.seconds) == (None, 7, None)
    assert all(not stage.methods for stage in control.stages)
    same = {"task", "student", "init", "batch_size", "cache", "ema", "precision", "seed"}
    assert recipe.model_dump(include=same) == control.model_dump(include=same)
    assert [s.lr for s in recipe.stages] == [s.lr for s in control.stages]


def test_every_key_is_documented() -> None:
    keys = {key: meaning for key, _, meaning in document(Recipe)}
    assert all(keys.values())
    assert {"stages.methods.weight", "teacher.prefix", "cache.crop"} <= keys.keys()
    assert set(Recipe.model_fields) <= keys.keys()


def test_an_unreadable_recipe_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none.json: No such file"):
        read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"name": ')
    with pytest.raises(UserError) as refused:
        read(tmp_path / "bad.json")
    assert "\n" not in str(refused.value)
    (tmp_path / "good.json").write_text(json.dumps(SMALL))
    assert read(tmp_path / "good.json") == parse(SMALL)


def test_minutes_are_shared_between_the_student_its_controls_and_the_report() -> None:
    recipe = presets.preset("denoise")
    taught = recipe.within(10)
    assert taught.seconds is not None
    assert taught.steps is None
    assert 3 * taught.seconds < 600 < 4 * taught.seconds
    alone = recipe.model_copy(update={"controls": False}).within(10)
    assert alone.seconds == pytest.approx(3 * taught.seconds)
