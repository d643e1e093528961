"""What tests of whole runs share."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from kdgen import run
from kdgen.__main__ import main
from kdgen.recipe import Recipe
from kdgen.types import Event


def call(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def drain(events: Iterable[Event]) -> list[Event]:
    """All that happens."""
    return list(events)


def weights(folder: Path, leg: str = "student") -> bytes:
    """What a leg of a run has learnt."""
    home = {"student": "", "assistant": "assistants", "control": "controls"}[leg.partition("_")[0]]
    return (folder / home / leg / "model.safetensors").read_bytes()


def interrupt(recipe: Recipe, folder: Path, *, step: int, leg: str = "student") -> None:
    """Begin a run, or go on with it, and drop it after a checkpoint of a leg at this step or later."""
    running = run.resume(folder) if folder.exists() else run.distill(recipe, folder)
    for event in running:
        if event.kind == "checkpoint" and event.leg == leg and event.step >= step:
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
        deadline = time.monotonic() + 60
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
