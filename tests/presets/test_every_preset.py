"""What every preset keeps to, without training."""

from contextlib import nullcontext

import documented
import pytest

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.adapters.declared_task import declared_task
from kdgen.models.hub_cache import hub_id
from kdgen.models.loading import BUNDLED
from kdgen.models.task_arguments import innermost, task_class
from kdgen.models.weightless import bundled, weightless
from kdgen.presets import preset
from kdgen.recipe import Checkpoint, parse
from kdgen.registry import Spec


@pytest.mark.parametrize("name", documented.own("preset"))
def test_a_preset_is_data_and_all_that_it_names_can_be_built(name: str) -> None:
    recipe = preset(name)
    assert registry.summary("preset", name).endswith(".")
    assert parse(recipe.model_dump(mode="json")) == recipe
    assert recipe.to_json() == parse(recipe.model_dump(mode="json")).to_json()
    links = recipe.links()
    assert links[-1][0] == "student"
    of_hub = hub_id(str(recipe.teacher).partition("#")[0]) is not None
    for phase, link in links:
        with weightless(bundled()) if of_hub else nullcontext():
            assert any(True for _ in registry.build("net", link.student).parameters()), phase
        taught = False
        for stage in link.stages:
            terms = [registry.build("method", use) for use in stage.methods]
            terms += [registry.build("objective", use) for use in stage.objectives]
            taught |= bool(terms)
            least, largest = registry.build("ratio", stage.ratio).bounds()
            assert 0 <= least <= largest <= 1
        assert taught or not recipe.teacher, "a stage may settle by the truth alone, but not all of them"
    assert set(recipe.task.args) <= set(registry.arguments("task", recipe.task.name))
    if isinstance(recipe.teacher, Checkpoint):
        assert_can_be_got(recipe.teacher, recipe.task)
    elif recipe.teacher is not None:
        teacher = recipe.teacher.partition("#")[0]
        assert (BUNDLED / teacher).is_dir() or getattr(hub_id(teacher), "name", None) in bundled()


def assert_can_be_got(teacher: Checkpoint, task: Spec) -> None:
    """A file that a user is told where to get, of a net that can be built and does the preset's task."""
    assert (teacher.url or "").startswith("https://")
    assert "/" not in teacher.file, "presets name files by bare relative paths"
    does = innermost(task).name
    assert declared_task(teacher)["name"] == does or does in task_class(teacher.task).alike
    assert any(True for _ in registry.build("net", teacher.net).parameters())
