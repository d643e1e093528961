"""Best and last state of a net: the better one is published, and both are told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import drain, tiny_recipes, weights

from kdgen.hub.check import trained
from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.registry import build
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.types import Event

Make = Callable[..., Recipe]
RUIN = json.dumps([{"methods": [{"name": "output"}], "share": 0.6, "lr": 0.005, "decay": "none"},
                   {"methods": [{"name": "output"}], "share": 0.4, "lr": 1.0, "decay": "none", "clip": 0}])  # fmt: skip


@pytest.fixture(scope="module")
def ruined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run whose second stage spoils what the first one taught."""
    folder = tmp_path_factory.mktemp("ruined")
    recipe = tiny_recipes(folder)(f"stages={RUIN}", "steps=12", "ema=0", "evaluate_every=0.0001", "controls=false")
    return folder / "run", drain(run.distill(recipe, folder / "run"))


def test_a_student_that_spoilt_is_published_at_its_best(ruined: tuple[Path, list[Event]]) -> None:
    folder, events = ruined
    figures = {e.step: e.data["psnr"] for e in events if e.kind == "evaluate"}
    best = max(figures, key=lambda step: figures[step])
    assert best < 12
    student = Report.read(folder).find("student")
    assert student is not None
    assert (student.steps, student.kept) == (12, best)
    assert weights(folder) == (folder / "best" / "student" / "model.safetensors").read_bytes()
    recipe = Recipe.model_validate_json((folder / "recipe.json").read_text())
    task = build("task", recipe.task)
    assert task.evaluate(load(folder).net)["psnr"] == pytest.approx(student.metrics["psnr"], abs=1e-4)
    last = torch.load(folder / "checkpoints" / "student" / "last.pt", weights_only=True)["average"]["net"]
    spoilt = load(folder).net
    spoilt.load_state_dict(last)
    assert task.evaluate(spoilt)["psnr"] < student.metrics["psnr"] - 1


def test_report_card_and_table_tell_the_best_from_the_last(ruined: tuple[Path, list[Event]]) -> None:
    folder, _ = ruined
    student = Report.read(folder).find("student")
    assert student is not None
    said = f"Best and last state differ: student, {student.metrics['psnr']:.2f} dB at step {student.kept} ("
    for page in (folder / "report.md", folder / "student" / "README.md"):
        text = page.read_text()
        assert said in text
        assert "at its last step 12, kept the best" in text
        assert "figures on the images of this evaluation" in text
        assert f"12, that of {student.kept} kept" in text


def test_what_is_pushed_is_compared_with_the_best_where_that_is_kept(ruined: tuple[Path, list[Event]]) -> None:
    folder, _ = ruined
    net, x = trained(folder), torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    assert net is not None
    assert torch.equal(net(x), load(folder).net(x))


def test_a_last_state_that_is_the_best_is_kept_without_a_word(make: Make, tmp_path: Path) -> None:
    alone = make("teacher=null", 'stages=[{"name": "train"}]', "steps=8", "ema=0")
    drain(run.distill(alone, tmp_path / "run"))
    student = Report.read(tmp_path / "run").find("student")
    assert student is not None
    assert student.kept is None
    assert "Best and last" not in (tmp_path / "run" / "report.md").read_text()
