"""Whole runs on tiny nets: what they leave behind, and what they survive."""

import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import kdgen
from kdgen import run
from kdgen.answers import AnswerPool
from kdgen.checkpoint import Checkpoints
from kdgen.compare import Report
from kdgen.model import Model, build_net, load
from kdgen.recipe import Recipe, override, parse
from kdgen.registry import Use
from kdgen.types import Event, UserError

Make = Callable[..., Recipe]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Recipes for a tiny student of a tiny teacher whose weights lie in a student folder."""
    torch.manual_seed(0)
    net, use = build_net(Use(name="dncnn", args={"depth": 3, "width": 24}), channels=1)
    Model(net, name="tiny", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(tmp_path / "teacher")
    whole = {
        "name": "tiny",
        "task": {"name": "denoise", "args": {"sigma": 25, "patch": 16}},
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "dncnn", "args": {"depth": 3, "width": 16}},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 12,
        "batch_size": 4,
        "pool": {"patches": 32, "dir": str(tmp_path / "cache")},
        "precision": "float32",
        "checkpoint_every": 0.01,
        "evaluate_every": 0.05,
        "device": "cpu",
    }
    return lambda *settings: override(parse(whole), settings)


def weights(folder: Path, leg: str = "student") -> bytes:
    home = folder / "student" if leg == "student" else folder / "controls" / leg
    return (home / "model.safetensors").read_bytes()


def interrupt(recipe: Recipe, folder: Path, *, step: int) -> None:
    """Begin a run and drop it after a checkpoint at this step or later."""
    running = run.distill(recipe, folder)
    for event in running:
        if event.kind == "checkpoint" and event.step >= step:
            break
    running.close()


def drain(events: object) -> list[Event]:
    return list(events)  # type: ignore[call-overload]


def test_a_run_leaves_everything_behind(make: Make, tmp_path: Path) -> None:
    events = drain(run.distill(make(), tmp_path / "run"))
    assert events[-1].kind == "done"
    assert {e.kind for e in events} >= {"start", "answers", "leg", "report", "done"}
    for name in ("recipe.json", "metrics.jsonl", "report.json", "report.md", "samples.png", "curves.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert set(rows) == {"input", "teacher", "student", "control_steps", "control_seconds"}
    assert rows["control_steps"].steps == rows["student"].steps == 12
    assert rows["control_seconds"].seconds == pytest.approx(rows["student"].seconds, abs=0.3)
    assert {"psnr", "ssim", "sharpness"} <= rows["student"].metrics.keys()
    assert rows["student"].num_params < rows["teacher"].num_params
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [e.kind for e in events]
    image = torch.zeros(1, 9, 7)
    assert load(tmp_path / "run")(image).shape == image.shape


def test_the_same_recipe_gives_the_same_student(make: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        drain(run.distill(make("controls=false"), tmp_path / name))
    drain(run.distill(make("controls=false", "seed=1"), tmp_path / "c"))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_resumed_run_computes_as_it_began(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make("controls=false", "precision=auto")
    monkeypatch.setattr(run, "bfloat16_pays", lambda device: True)
    drain(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=3)
    monkeypatch.setattr(run, "bfloat16_pays", lambda device: False)
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_a_run_is_never_overwritten(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("controls=false"), tmp_path / "run"))
    with pytest.raises(UserError, match="kdgen resume"):
        drain(run.distill(make(), tmp_path / "run"))


def test_the_second_of_two_runs_in_one_folder_is_refused(make: Make, tmp_path: Path) -> None:
    first = run.distill(make(), tmp_path / "run")
    next(first)
    with pytest.raises(UserError, match="another process"):
        next(run.resume(tmp_path / "run"))
    first.close()


def test_stopping_saves_and_resuming_ends_with_the_same_student(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("controls=false"), tmp_path / "whole"))
    events = []
    for event in run.distill(make("controls=false"), tmp_path / "run"):
        events.append(event)
        if event.kind == "checkpoint" and event.step >= 3:
            os.kill(os.getpid(), signal.SIGTERM)
    assert events[-1].kind == "stopped"
    assert not (tmp_path / "run" / "student").exists()
    assert drain(run.resume(tmp_path / "run"))[-1].kind == "done"
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


ADAPTIVE = (
    'stages=[{"share": 0.7, "methods": [{"name": "output"}, {"name": "feature"}],'
    ' "ratio": {"name": "adaptive", "args": {"alpha": 0.5, "every": 3}}},'
    ' {"share": 0.3, "name": "fine-tune", "optimizer": "muon", "lr": 0.001}]'
)


def test_resume_is_exact_with_regressors_an_adaptive_ratio_and_two_stages(make: Make, tmp_path: Path) -> None:
    recipe = make("controls=false", ADAPTIVE, "steps=20")
    drain(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=7)
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_sigkill_at_random_moments_changes_nothing(make: Make, tmp_path: Path) -> None:
    recipe = make("steps=700", ADAPTIVE, "checkpoint_every=0.2", "pool.patches=256")
    recipe = recipe.model_copy(update={"controls": False})
    drain(run.distill(recipe, tmp_path / "whole"))
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    shuffled = random.Random(7)
    script = "import sys; from kdgen.__main__ import main; main()"
    begin = [sys.executable, "-c", script, "distill", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run")]
    again = [sys.executable, "-c", script, "resume", str(tmp_path / "run")]
    killed = 0
    for number in range(5):
        process = subprocess.Popen([*(again if number else begin), "--quiet"], stdout=subprocess.DEVNULL)
        log = tmp_path / "run" / "metrics.jsonl"
        known = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size > known:
                break
            time.sleep(0.02)
        time.sleep(shuffled.uniform(0, 1.0))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 3, "the run was over before it could be killed"
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("controls=false"), tmp_path / "whole"))
    interrupt(make("controls=false"), tmp_path / "run", step=5)
    last = tmp_path / "run" / "checkpoints" / "student" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    events = drain(run.resume(tmp_path / "run"))
    warnings = [e.data["message"] for e in events if e.kind == "warning"]
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    checkpoints = Checkpoints(tmp_path)
    checkpoints.last.write_bytes(pickle.dumps(Trap()))
    state, damaged = checkpoints.load()
    assert state is None
    assert len(damaged) == 1
    assert not (tmp_path / "sprung").exists()


def test_a_nan_goes_back_and_the_run_ends_well(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = AnswerPool.__getitem__
    calls = iter(range(10**6))

    def poisoned(self: AnswerPool, index: torch.Tensor) -> object:
        batch, answer = pooled(self, index)
        if next(calls) == 6:
            batch.x[0, 0, 0, 0] = float("nan")
        return batch, answer

    monkeypatch.setattr(AnswerPool, "__getitem__", poisoned)
    events = drain(run.distill(make("controls=false"), tmp_path / "run"))
    warnings = [e.data["message"] for e in events if e.kind == "warning"]
    assert len(warnings) == 1
    assert "learning rate times 0.5" in warnings[0]
    assert all(p.isfinite().all() for p in load(tmp_path / "run").parameters())


def test_a_loss_that_stays_nan_stops_with_an_explanation(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = AnswerPool.__getitem__

    def poisoned(self: AnswerPool, index: torch.Tensor) -> object:
        batch, answer = pooled(self, index)
        batch.x.fill_(float("nan"))
        return batch, answer

    monkeypatch.setattr(AnswerPool, "__getitem__", poisoned)
    with pytest.raises(UserError, match=r"not finite at step \d+, after going back 3 times"):
        drain(run.distill(make("controls=false"), tmp_path / "run"))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints" / "student")
    checkpoints.save({"step": 3, "value": torch.ones(3)})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"is full, so step 4 could not be saved; the checkpoint of step 3 is kept"):
        checkpoints.save({"step": 4, "value": torch.zeros(3)})
    state, damaged = checkpoints.load()
    assert state is not None
    assert state["step"] == 3
    assert not damaged


def test_without_ground_truth_the_teacher_is_the_only_guide(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    noisy = tmp_path / "noisy"
    noisy.mkdir()
    for number in range(3):
        pixels = torch.randint(256, (24, 24), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(noisy / f"{number}.png")
    images = json.dumps({"name": "folder", "args": {"path": str(noisy)}})
    recipe = make("task.args={}", 'task.args={"patch": 16, "clean": false, "images": ' + images + "}")
    drain(run.distill(recipe, tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert {row.role for row in report.rows} == {"input", "teacher", "student"}
    assert "alpha was 1" in (tmp_path / "run" / "report.md").read_text()


def test_uncached_and_without_a_teacher(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("pool.patches=0", "controls=false"), tmp_path / "uncached"))
    drain(run.distill(make("teacher=null", 'stages=[{"name": "train"}]', "pool.patches=0"), tmp_path / "alone"))
    assert {row.role for row in Report.read(tmp_path / "alone").rows} == {"input", "student"}


@pytest.mark.parametrize("student", [{"name": "half_res", "args": {"sigma_map": True}}, {"name": "patch_mlp"}])
def test_colour_and_a_range_of_levels(make: Make, tmp_path: Path, student: dict[str, object]) -> None:
    recipe = make(
        'task.args={"sigma": [5, 50], "channels": 3, "patch": 16}',
        "teacher=soft",
        f"student={json.dumps(student)}",
        "controls=false",
        "steps=3",
    )
    drain(kdgen.distill(recipe, tmp_path / "run", teacher=kdgen.from_module(torch.nn.Hardtanh())))
    metrics = Report.read(tmp_path / "run").rows[-1].metrics
    assert {"psnr", "psnr@15", "psnr@25", "psnr@50"} <= metrics.keys()
    restored = load(tmp_path / "run")(torch.zeros(3, 1, 5), sigma=10)
    assert restored.shape == (3, 1, 5)


def test_a_plain_module_is_a_teacher(make: Make, tmp_path: Path) -> None:
    class Blur(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.min() > -1.5
            return torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)

    net = kdgen.from_module(Blur(), range=(0.0, 1.0))
    drain(kdgen.distill(make("teacher=blur", "controls=false"), tmp_path / "run", teacher=net))
    teacher = Report.read(tmp_path / "run").find("teacher")
    assert teacher is not None
    assert (teacher.name, teacher.num_params) == ("blur", 0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('stages=[{"methods": [{"name": "feature", "args": {"pairs": [["no.such", "1"]]}}]}]', "no layer 'no.such'"),
        ('stages.0.ratio={"name": "fixed", "args": {"alpha": 1.5}}', r"alpha"),
        ('stages.0.methods=[{"name": "outputt"}]', "output"),
        ('student={"name": "dncnn", "args": {"widht": 3}}', "width"),
        ("teacher=no-such-model", "no model at 'no-such-model'"),
        ('task.args={"images": {"name": "folder", "args": {"path": "/no/such/folder"}}}', "/no/such/folder"),
        ("device=cuda:99", "cuda:99"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(make: Make, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        drain(run.distill(make(setting), tmp_path / "run"))
    assert "\n" not in str(caught.value)
