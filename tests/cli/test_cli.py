import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import call
from torch import nn

from kdgen import registry
from kdgen.__main__ import main
from kdgen.recipe import Recipe, parse
from kdgen.report.compare import Row, compare
from kdgen.training import run
from kdgen.types import Batch, DistillationInputs, Event
from kdgen.utils.durations import clock

RECIPE = {"name": "mine", "task": {"name": "denoise"}, "student": {"name": "dncnn"}, "steps": 9}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `distill` was called with; in its place a run is played."""
    seen: dict[str, Any] = {"ending": "done"}

    def played(recipe: Recipe, out: Path, *, teacher: None) -> Iterator[Event]:
        seen.update(recipe=recipe, out=out)
        yield Event(kind="start", data={"student": "dncnn", "teacher": "big", "folder": str(out)})
        yield Event(kind="answers", data={"done": 5, "total": 10, "seconds": 1.0, "from_disk": False})
        yield Event(kind="step", step=4, progress=0.5,
                    data={"loss": 0.01, "output": 0.02, "images_per_second": 300.0, "seconds": 1.0, "seconds_left": 61.0})  # fmt: skip
        yield Event(kind="warning", data={"message": "the loss was odd"})
        yield Event(kind="evaluate", step=9, progress=1.0, data={"psnr": 28.5, "contrast": 0.61})
        if seen["ending"] == "stopped":
            yield Event(kind="stopped", data={"reason": "asked to stop", "resume": f"kdgen resume {out}"})
            return
        rows = [Row(role=role, name=role, num_params=10, metrics={"psnr": psnr})
                for role, psnr in (("teacher", 30.0), ("student", 28.5), ("control_steps", 27.0))]  # fmt: skip
        compare(rows, task="denoise(sigma=25)").save(out)
        yield Event(kind="report", data={"path": str(out / "report.json")})
        yield Event(kind="done", data={"folder": str(out), "student": str(out / "student")})

    monkeypatch.setattr(run, "distill", played)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps(RECIPE))
    return seen


def test_help_teaches_and_loads_no_torch() -> None:
    code = "import sys; sys.argv = ['kdgen', 'distill', '--help']\nfrom kdgen.__main__ import main\n" \
           "try:\n    main()\nexcept SystemExit:\n    assert 'torch' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for words in ("kdgen distill denoise", "--set", "--no-controls", "--code"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("presets", "denoise"),
        ("nets", "dncnn"),
        ("tasks", "denoise"),
        ("methods", "output"),
        ("ratios", "adaptive"),
        ("adapters", "unet2d"),
    ],
)
def test_list(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", what) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert any(line[0] == name and len(line[1]) > 10 for line in lines)


def test_show_prints_a_recipe_that_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "denoise") == 0
    assert parse(capsys.readouterr().out).name == "denoise"
    assert call("show", "denoise", "--explain") == 0
    explained = capsys.readouterr().out
    assert "stages.lr" in explained
    assert "peak learning rate" in explained


def test_distill_passes_the_options_on(started: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    code = call("distill", "mine.json", "--seconds", "7", "--seed", "3", "--device", "cuda:1", "--no-controls",
                "--set", "stages.0.lr=0.5", "--set", "batch_size=2")  # fmt: skip
    assert code == 0
    recipe = started["recipe"]
    assert (recipe.steps, recipe.seconds, recipe.seed, recipe.device) == (None, 7, 3, "cuda:1")
    assert (recipe.controls, recipe.stages[0].lr, recipe.batch_size) == (False, 0.5, 2)
    assert started["out"] == Path("runs/mine")
    shown = capsys.readouterr()
    assert "The teacher helped: +1.50 dB at equal steps" in shown.out
    assert "runs/mine/student" in shown.out
    assert "kdgen: the loss was odd" in shown.err
    assert "student: 50%, 1:01 left · 300 images/s · loss 0.01 · output 0.02" in shown.err


def test_default_folder_is_numbered(started: dict[str, Any]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine-2").mkdir()
    call("distill", "mine.json", "--quiet")
    assert started["out"] == Path("runs/mine-3")


def test_quiet_prints_the_folder_alone(started: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("distill", "mine.json", "--out", "here", "--quiet") == 0
    assert capsys.readouterr().out == "here\n"


def test_json_prints_an_event_a_line(started: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("distill", "mine.json", "--out", "here", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["kind"] for event in events][-2:] == ["report", "done"]
    assert events[2]["data"]["loss"] == 0.01


def test_a_stopped_run_exits_130_and_says_how_to_go_on(
    started: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    started["ending"] = "stopped"
    assert call("distill", "mine.json", "--out", "here") == 130
    assert "kdgen resume here" in capsys.readouterr().err


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", {kind: dict(things) for kind, things in registry._registered.items()})


@pytest.mark.usefixtures("own_registry")
def test_code_registers_the_users_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own_nets.py"
    file.write_text("from kdgen.registry import register\n\n@register('net')\ndef my_own_net():\n    'Mine.'\n")
    assert call("list", "nets", "--code", str(file)) == 0
    assert "my_own_net" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [("\nimport no_such_thing", "line 2: ModuleNotFoundError: No module named"), ("x = (", "line 1: SyntaxError")],
)
def test_code_that_fails_is_told_by_its_line(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_nets.py").write_text(text)
    assert call("list", "nets", "--code", str(tmp_path / "broken_nets.py")) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("own_registry")
def test_the_example_of_contributing_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    file = tmp_path / "spectrum_example.py"
    file.write_text(page.split("```python\n")[1].split("```")[0])
    assert call("list", "methods", "--code", str(file)) == 0
    assert "spectrum" in capsys.readouterr().out
    method = registry.build("method", registry.Spec(name="spectrum"))
    x, net = torch.rand(3, 1, 8, 8), nn.Identity()
    inputs = DistillationInputs(batch=Batch(x=x), student_output=2 * x, teacher_output=x, student_features={}, teacher_features={},
                student_net=net, teacher_net=net, student_ema=net)  # fmt: skip
    expected = torch.fft.rfft2(x, norm="ortho").abs().mean((1, 2, 3))
    torch.testing.assert_close(method.loss(inputs), expected)
    assert method.loss(replace(inputs, student_output=x)).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distill", "denose"], "the nearest: denoise"),
        (["distill", "absent.json"], "absent.json"),
        (["distill", "denoise", "--steps", "1", "--seconds", "1"], "give one of --steps, --seconds and --minutes"),
        (["distill", "denoise", "--set", "bach_size=2"], "batch_size"),
        (["distill", "denoise", "--set", "seed"], "KEY=VALUE"),
        (["list", "nets", "--code", "absent.py"], "none at absent.py"),
        (["resume", "absent"], "absent"),
        (["evaluate", "absent"], "absent"),
        (["restore", "denoiser", "absent.png", "out.png"], "nothing at absent.png"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("kdgen: ")
    assert said.count("\n") == 1
    assert words in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "weights"), 2),
        (OSError(errno.EROFS, "Read-only file system", "run"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_of_the_machine(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> Iterator[Event]:
        raise error
        yield

    monkeypatch.setattr(run, "resume", fail)
    assert call("resume", "here") == code
    assert capsys.readouterr().err.count("\n") == (code != 130)


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> Iterator[Event]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(run, "resume", fail)
    with pytest.raises(ZeroDivisionError):
        main(["resume", "here"])


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 65, 7200)] == ["0:00", "1:00", "1:05", "2:00:00"]
