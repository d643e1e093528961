"""The students that come with kdgen: small, made by presets, and as good as their cards say."""

import pytest

from kdgen import registry
from kdgen.metrics.cost import num_params
from kdgen.models.loading import BUNDLED, bundled_students
from kdgen.models.model import build_net, load
from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.report.compare import measure
from kdgen.report.report import Report, in_decibels
from kdgen.tasks.drawing import Drawing

LARGEST = 300 * 1024
"""Bytes of a bundled student's weights at most."""


NONE_YET = {"colorize", "depth", "find-faults", "night-sees-day"}
"""Presets of whose students none comes with kdgen.

That of ``colorize`` is worse than nothing, and that of ``find-faults`` is of a user's own pictures.
"""

SLOW = ("autoencoder-student", "diffusion-student", "diffusion-blocks-student", "vae-decoder-student", "vae-student")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in bundled_students()]
)
def test_a_bundled_student_is_what_its_card_says(name: str) -> None:
    home, recipe = BUNDLED / name, preset(name.removesuffix("-student"))
    assert sum(file.stat().st_size for file in home.rglob("*.safetensors")) <= LARGEST
    report, model, task = Report.read(home), load(name), registry.build("task", recipe.task)
    row = report.find("student")
    assert row is not None
    assert report.find("control_seconds") or not report.ground_truth
    assert model.use is not None
    assert model.use.name == recipe.student.name
    assert recipe.student.args.items() <= model.use.args.items()
    assert isinstance(recipe.teacher, str)
    taught = "@teacher" in report.primary_metric or isinstance(task, Drawing)
    reference = load(recipe.teacher).net if taught else None
    again = measure("student", model.net, task, name=name, reference=reference, timed=False)
    near = {"abs": 0.02} if in_decibels(report.primary_metric) else {"rel": 0.02}
    assert again.metrics[report.primary_metric] == pytest.approx(row.metrics[report.primary_metric], **near)


def test_every_preset_has_its_student_whose_net_is_small_enough_and_knows_its_trade() -> None:
    """Of models that are bundled or on the Hub, without files of a user's own; but for those of ``NONE_YET``."""
    recipes = [preset(name) for name in registry.names("preset")]
    small = {
        recipe.name
        for recipe in recipes
        if recipe.name not in NONE_YET
        and recipe.device == "auto"
        and isinstance(recipe.teacher, str)
        and not recipe.teachers
        and is_small(recipe)
    }
    assert {f"{name}-student" for name in small} == {*bundled_students()}


def is_small(recipe: Recipe) -> bool:
    """Whether the student of a recipe can be bundled, in half precision and with its file's table of contents."""
    task = registry.build("task", recipe.task)
    net, _ = build_net(recipe.student, task.channels, task.describe())
    return 2 * num_params(net) + 110 * len(net.state_dict()) < LARGEST
