"""What the presets of restorers promise."""

import pytest

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.model import build_net, load
from kdgen.presets import preset
from kdgen.utils.conditions import read_of

FEWER = {"upscale-x4": 13, "upscale-x2": 15, "deblur": 12, "dejpeg": 12, "low-light": 12, "inpaint": 12, "colorize": 12,
         "derain": 12, "stylize": 6}  # fmt: skip
"""How many times fewer multiply-accumulates the app says that each student has."""


@pytest.mark.parametrize(("name", "times"), FEWER.items())
def test_a_student_costs_what_the_app_says_of_it(name: str, times: int) -> None:
    recipe = preset(name)
    assert isinstance(recipe.teacher, str)
    task = registry.build("task", recipe.task)
    example = task.example()
    teacher, (student, _) = load(recipe.teacher), build_net(recipe.student, task.channels, task.describe())
    theirs, own = (cost.macs(net, example.x, read_of(net, example.cond)) for net in (teacher.net, student))
    assert round(theirs / own) == times
    assert cost.size_bytes(student) <= 300_000
