"""What tests of whole runs share."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kdgen.training.loss_weighting  # noqa: F401
from kdgen.__main__ import main
from kdgen.models.model import Model, build_net
from kdgen.recipe import Recipe, parse
from kdgen.registry import Spec
from kdgen.training import run
from kdgen.training.teacher import Teacher
from kdgen.training.train_step import Learner
from kdgen.types import Batch, Event, Task
from kdgen.utils.distributed import Team

EACH_STEP = 1e-9
"""Seconds between checkpoints, so few that one follows every step on the quickest machine too."""


def call(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def drain(events: Iterable[Event]) -> list[Event]:
    """All that happens."""
    return list(events)


def trained(events: Generator[Event]) -> list[Event]:
    """What happens until the student has learnt; for tests that look at its weights alone, nothing is measured."""
    seen = []
    for event in events:
        seen.append(event)
        if (event.kind, event.phase) == ("phase", "student"):
            events.close()
            return seen
    raise AssertionError("the run ended before its student had learnt")


def weights(folder: Path, phase: str = "student") -> bytes:
    """What a phase of a run has learnt."""
    home = {"student": "", "assistant": "assistants", "control": "controls"}[phase.partition("_")[0]]
    return (folder / home / phase / "model.safetensors").read_bytes()


def interrupt(recipe: Recipe, folder: Path, *, step: int, phase: str = "student") -> None:
    """Begin a run, or go on with it, and drop it after a checkpoint of a phase at this step or later."""
    running = run.resume(folder) if folder.exists() else run.distill(recipe, folder)
    for event in running:
        if event.kind == "checkpoint" and event.phase == phase and event.step >= step:
            break
    else:
        raise AssertionError("the run was over before it could be interrupted")
    running.close()


def kill_at_random(recipe: Recipe, folder: Path, *, times: int, least: int, longest: float = 1.0) -> None:
    """Run a recipe in a process of its own that is killed ``times`` times, each within ``longest`` s of its first word.

    Fails if fewer than ``least`` of the processes were alive to be killed.
    """
    file = folder.with_suffix(".json")
    file.write_text(recipe.to_json())
    shuffled = random.Random(7)
    script = [sys.executable, "-c", "from kdgen.__main__ import main; main()"]
    begin, again = ["distill", str(file), "--out", str(folder)], ["resume", str(folder)]
    log, killed = folder / "metrics.jsonl", 0
    for number in range(times):
        known = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen([*script, *(again if number else begin), "--quiet"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size > known:
                break
            time.sleep(0.02)
        time.sleep(shuffled.uniform(0, longest))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed >= least, "the run was over before it could be killed"


def kill_when(recipe: Recipe, folder: Path, met: Callable[[dict[str, Any]], bool]) -> None:
    """Begin a run, or go on with it, in a process of its own, and kill that at the first event that meets a condition.

    Fails if the process ends by itself.
    """
    file = folder.with_suffix(".json")
    file.write_text(recipe.to_json())
    log = folder / "metrics.jsonl"
    known = log.stat().st_size if log.exists() else 0
    what = ["resume", str(folder)] if folder.exists() else ["distill", str(file), "--out", str(folder)]
    script = [sys.executable, "-c", "from kdgen.__main__ import main; main()", *what, "--quiet"]
    process = subprocess.Popen(script, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        fresh = log.read_bytes()[known:].rpartition(b"\n")[0].splitlines() if log.exists() else []
        if any(met(json.loads(line)) for line in fresh):
            break
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"


class Untold(Task):
    """A task that knows no truth."""


def learner_of(
    stage: dict[str, Any], student: nn.Module, teacher: nn.Module | None, probe: Batch, task: Any, **more: Any
) -> Learner:
    """What learns in a phase of one stage, on the CPU, with nets and a task of a test's own."""
    recipe = parse({"name": "test", "task": {"name": "denoise"}, "teacher": "test" if teacher else None,
                    "student": {"name": "dncnn"}, "stages": [stage], "steps": 1, **more})  # fmt: skip
    cpu = torch.device("cpu")
    asked = Teacher(teacher, probe, device=cpu) if teacher else None
    return Learner(recipe, task=task or Untold(), student=student, teacher=asked, probe=probe, device=cpu, dtype=torch.float32,
                   team=Team("cpu"))  # fmt: skip


def tiny_recipes(tmp_path: Path) -> Callable[..., Recipe]:
    """What ``make`` gives, in a folder."""
    import numpy as np
    import torch
    from PIL import Image

    from kdgen.recipe import override, parse

    torch.manual_seed(0)
    net, use = build_net(Spec(name="dncnn", args={"depth": 3, "width": 24}), channels=1)
    Model(net, name="tiny", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(tmp_path / "teacher")
    (tmp_path / "pictures").mkdir()
    ramp = np.add.outer(np.arange(24), 7 * np.arange(24)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "pictures" / "ramp.png")
    pictures = {"name": "folder", "args": {"path": str(tmp_path / "pictures")}}
    whole = {
        "name": "tiny",
        "task": {"name": "denoise", "args": {"sigma": 25, "patch": 16, "evaluate": pictures}},
        "teacher": str(tmp_path / "teacher"),
        "student": {"name": "dncnn", "args": {"depth": 3, "width": 16}},
        "stages": [{"methods": [{"name": "output"}]}],
        "steps": 12,
        "batch_size": 4,
        "cache": {"inputs": 32, "dir": str(tmp_path / "cache")},
        "precision": "float32",
        "checkpoint_every": EACH_STEP,
        "evaluate_every": 0.05,
        "device": "cpu",
    }
    return lambda *settings: override(parse(whole), settings)


SMALL_UNET = {"block_out_channels": [8, 16], "norm_num_groups": 4, "attention_levels": 0}


def small_diffusion(home: Path, **args: Any) -> str:
    """A diffusion model of grey images of 8x8, saved in a folder."""

    torch.manual_seed(0)
    net, use = build_net(Spec(name="unet2d", args={**SMALL_UNET, "size": 8, **args}), channels=1)
    made: Any = net
    Model(net, name=home.name, channels=1, task=made.describe(), use=use).save(home)
    return str(home)


def taught_by(teacher: str, student: dict[str, Any], method: dict[str, Any], task: str, **told: Any) -> dict[str, Any]:
    """A recipe of two steps on a few images of a small diffusion model, its teacher; ``task`` is told more."""
    images = {"name": "samples", "args": {"model": teacher, "num_images": 8, "num_steps": 2}}
    return {
        "name": "small",
        "task": {"name": task, "args": {"images": images, "size": 8, "num_images": 4, "num_steps": 2, **told}},
        "teacher": teacher,
        "student": student,
        "stages": [{"methods": [method]}],
        "steps": 2,
        "batch_size": 4,
        "cache": {"inputs": 0},
        "controls": False,
        "device": "cpu",
        "precision": "float32",
    }


def untrained(use: Spec, task: Mapping[str, object] | None = None, channels: int = 1) -> Model:
    """A model of a net by name with weights drawn at random, always the same."""
    torch.manual_seed(0)
    net, use = build_net(use, channels)
    return Model(net, name="tiny", channels=channels, task=task, use=use)
