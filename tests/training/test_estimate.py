import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support import call, drain

from kdgen.metrics import cost
from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.training.estimate import plan

Make = Callable[..., Recipe]


def test_a_plan_counts_what_the_run_then_has(make: Make, tmp_path: Path) -> None:
    recipe = make("steps=5", "cache.inputs=48", "controls=false")
    found = plan(recipe)
    drain(run.distill(recipe, tmp_path / "run"))
    student, teacher = load(tmp_path / "run"), load(tmp_path / "teacher")
    assert found.teacher is not None
    (phase,) = found.phases
    for net, planned in ((student, phase.net), (teacher, found.teacher)):
        assert planned.num_params == cost.num_params(net.net)
    assert phase.net.macs == 256**2 * 9 * (16 + 16 * 16 + 16)
    assert found.teacher.macs == 256**2 * 9 * (24 + 24 * 24 + 24)
    shards = [load_file(file) for file in (tmp_path / "cache").rglob("*.safetensors")]
    assert shards
    assert found.disk_bytes == sum(column.nbytes for shard in shards for column in shard.values())
    assert phase.steps == 5
    assert min(phase.steps_per_second, phase.answer_seconds, phase.seconds, found.memory_bytes) > 0
    assert found.control_seconds == 0
    assert found.seconds == pytest.approx(phase.answer_seconds + 5 / phase.steps_per_second)


def test_a_plan_of_a_chain_in_seconds_has_a_row_for_each_net(make: Make) -> None:
    chain = 'assistants=[{"student": {"name": "dncnn", "args": {"depth": 3, "width": 20}}, "share": 0.25}]'
    found = plan(make("seconds=40", chain))
    assert [phase.phase for phase in found.phases] == ["assistant_1", "student"]
    assert [phase.seconds for phase in found.phases] == [10, 30]
    assert found.control_seconds > 40
    assert found.seconds == pytest.approx(40 + found.control_seconds)


def test_controls_that_are_never_trained_are_not_counted(make: Make, tmp_path: Path) -> None:
    images = {"name": "folder", "args": {"path": str(tmp_path / "pictures")}}
    task = {"patch": 16, "clean": False, "images": images, "evaluate": images}
    recipe = make("steps=5", f"task.args={json.dumps(task)}")
    assert recipe.controls
    found = plan(recipe)
    assert found.control_seconds == 0


def test_the_command_says_what_is_counted_and_what_is_estimated(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text(make("controls=false").to_json())
    assert call("plan", str(tmp_path / "mine.json"), "--steps", "9") == 0
    shown = capsys.readouterr().out
    assert "student" in shown
    assert "counted" in shown
    assert call("plan", "denoise", "--steps", "1", "--seconds", "1") == 2
