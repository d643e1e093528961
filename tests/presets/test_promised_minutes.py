"""A preset that promises minutes has a recipe that takes them, by the share of a run that kdgen counts as training."""

import re

import documented
import pytest

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.presets import preset
from kdgen.recipe import Recipe, training_seconds
from kdgen.registry import Spec

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PROMISE = re.compile(r"(\w+) (minute|hour)s?( of training)?\b")


def promises(told: str) -> list[tuple[float, bool]]:
    """The minutes that a docstring names, and whether they are those of the student's training alone."""
    found = []
    for number, unit, alone in PROMISE.findall(" ".join(told.split())):
        count = 1 if number in ("a", "an") else int(number) if number.isdecimal() else NUMBERS.index(number)
        found.append((count * (60.0 if unit == "hour" else 1.0), bool(alone)))
    return found


def kept(recipe: Recipe, minutes: float, *, alone: bool) -> bool:
    """Whether a recipe fits into so many minutes, and needs more than half of them."""
    controlled = recipe.controls and recipe.teacher is not None
    room = 60 * minutes if alone else training_seconds(minutes, controlled=controlled)
    return recipe.seconds is not None and room / 2 < recipe.seconds <= room + 1e-6


@pytest.mark.parametrize("name", documented.own("preset"))
def test_a_preset_takes_the_minutes_that_it_promises(name: str) -> None:
    recipe = preset(name)
    for minutes, alone in promises(registry.get("preset", name).__doc__ or ""):
        assert kept(recipe, minutes, alone=alone), (minutes, recipe.seconds, recipe.controls)


def test_controls_count_as_long_as_the_student_each_and_what_is_counted_in_steps_promises_nothing() -> None:
    recipe = Recipe(
        name="any", task=Spec(name="denoise"), teacher="denoiser", student=Spec(name="half_res"), seconds=85
    )
    assert promises("Five things: five minutes, a minute\n    of training or an hour.") == [
        (5, False),
        (1, True),
        (60, False),
    ]
    assert kept(recipe, 5, alone=False)
    assert not kept(recipe, 4, alone=False)
    assert not kept(recipe, 60, alone=False)
    alone = recipe.model_copy(update={"controls": False})
    assert kept(alone, 2, alone=False)
    assert not kept(recipe, 2, alone=False)
    assert kept(recipe, 2, alone=True)
    assert not kept(recipe.lasting(steps=100), 5, alone=False)
