"""Several teachers in one run: each method learns from the one that it names, cached or not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import call, drain, interrupt, trained, weights
from torch import nn

from kdgen.models.model import Model, build_net, load
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.types import UserError

Make = Callable[..., Recipe]


@pytest.fixture
def second(tmp_path: Path) -> str:
    """A teacher of other weights and another shape than the one of tiny recipes."""
    torch.manual_seed(1)
    net, use = build_net(Spec(name="dncnn", args={"depth": 4, "width": 8}), channels=1)
    Model(net, name="second", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(tmp_path / "second")
    return str(tmp_path / "second")


def methods(*uses: dict[str, object]) -> str:
    return f"stages.0.methods={json.dumps(uses)}"


FEATURE = {"name": "feature", "args": {"pairs": [["0", "0"]]}}


@pytest.mark.parametrize(("method", "inputs"), [({"name": "output"}, 0), (FEATURE, 32), *(
    pytest.param(*each, marks=pytest.mark.slow) for each in (({"name": "output"}, 32), ({"name": "gradient"}, 0),
                                                             ({"name": "gradient"}, 32), (FEATURE, 0)))])  # fmt: skip
def test_a_method_learns_from_the_teacher_that_it_names_as_if_that_were_the_only_one(
    make: Make, tmp_path: Path, second: str, method: dict[str, object], inputs: int
) -> None:
    plain = ["controls=false", f"cache.inputs={inputs}", "cache.augment=false", "steps=12", "ema=0"]
    trained(run.distill(make(*plain, f"teacher={second}", methods(method)), tmp_path / "alone"))
    both = [*plain, f'teachers={{"sharp": "{second}"}}', methods({**method, "teacher": "sharp"})]
    trained(run.distill(make(*both), tmp_path / "both"))
    trained(run.distill(make(*plain, methods(method)), tmp_path / "first"))
    alone, named, first = (load(str(tmp_path / each / "student")).net for each in ("alone", "both", "first"))
    off, apart = distance(named, alone), distance(first, alone)
    assert off < 0.05 * apart, "answers that are kept as features are rounded to 16 bits, and no more"
    assert inputs or off == 0


def distance(net: nn.Module, other: nn.Module) -> float:
    pairs = zip(net.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_two_teachers_teach_side_by_side_and_the_report_names_both(make: Make, tmp_path: Path, second: str) -> None:
    recipe = make(
        f'teachers={{"sharp": "{second}"}}', methods({"name": "output"}, {"name": "output", "teacher": "sharp"})
    )
    events = drain(run.distill(recipe, tmp_path / "run"))
    assert events[-1].kind == "done"
    assert (
        "Further teachers, that the table does not measure: sharp (second)."
        in (tmp_path / "run" / "report.md").read_text()
    )
    assert (tmp_path / "run" / "controls" / "control_steps" / "config.json").is_file()


def test_a_run_with_two_teachers_goes_on_where_it_was_left(make: Make, tmp_path: Path, second: str) -> None:
    recipe = make("controls=false", f'teachers={{"sharp": "{second}"}}',
                  methods({"name": "output"}, {"name": "output", "teacher": "sharp"}))  # fmt: skip
    trained(run.distill(recipe, tmp_path / "straight"))
    interrupt(recipe, tmp_path / "broken", step=6)
    drain(run.resume(tmp_path / "broken"))
    assert weights(tmp_path / "straight") == weights(tmp_path / "broken")


def test_a_name_that_no_teacher_has_is_refused(make: Make, second: str) -> None:
    with pytest.raises(UserError, match="names the teacher 'shrp', which `teachers` does not have; the nearest: sharp"):
        make(f'teachers={{"sharp": "{second}"}}', methods({"name": "output", "teacher": "shrp"}))
    with pytest.raises(UserError, match="name the main one as teacher"):
        make("teacher=null", f'teachers={{"sharp": "{second}"}}', methods())


def test_further_teachers_lie_where_the_recipe_does(make: Make, tmp_path: Path, second: str) -> None:
    recipe = make("controls=false", 'teachers={"sharp": "./second"}', methods({"name": "output", "teacher": "sharp"}))
    (tmp_path / "two.json").write_text(recipe.to_json())
    assert call("distill", str(tmp_path / "two.json"), "--out", str(tmp_path / "run"), "--quiet") == 0
    noted = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert noted["teachers"] == {"sharp": second}
