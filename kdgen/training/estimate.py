"""What a run will take, before it: sizes are counted, seconds are measured on a few real steps and carried forward."""

import math
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import nn

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.input_shape import InputShape, input_shape
from kdgen.models.model import build_net, load
from kdgen.recipe import Recipe
from kdgen.training.run import distill
from kdgen.training.schedule import asking
from kdgen.types import Batch
from kdgen.utils.schema import Strict

FEW, MORE = 2, 8
"""Steps of the two trials. The difference is what is measured, so that what only the first steps take is left out."""

ASKED = 32
"""Answers that the teacher is asked for in a trial."""


class Net(Strict):
    """What a net costs: both counted."""

    num_params: int = Field(description="number of parameters")
    macs: int = Field(description="multiply-accumulates of one call on the task's example")
    sizes: str | None = Field(None, description="heights and widths that it takes, where these are not free")


class Phase(Strict):
    """What one net of the chain takes."""

    phase: str = Field(description="assistant_1 and so on, or student")
    net: Net = Field(description="the net that is trained")
    steps_per_second: float = Field(description="measured on a few steps")
    steps: int = Field(description="of the recipe; estimated where that gives seconds")
    answer_seconds: float = Field(description="for the teacher's cached answers; estimated, 0 where there are none")
    seconds: float = Field(description="of the answers and the training; estimated where the recipe gives steps")


class Plan(Strict):
    """What a run takes."""

    teacher: Net | None = Field(description="who teaches")
    phases: list[Phase] = Field(description="each net of the chain")
    control_seconds: float = Field(description="of both controls; estimated from the student's steps")
    seconds: float = Field(description="of everything but quick evaluations and the report; estimated")
    disk_bytes: int = Field(description="of the cached answers; counted")
    memory_bytes: int = Field(description="peak of this process in the trials, or of the GPU's memory; measured")


def plan(recipe: Recipe) -> Plan:
    """Estimate what a run takes, by two short runs of the same recipe in a folder that is removed.

    Images that a model draws to train on are drawn here, and kept in the cache for the run itself.

    Raises:
        UserError: for whatever the run itself would refuse.
    """
    scale = trial_scale(recipe)
    with TemporaryDirectory() as folder:
        few, *_ = trial(recipe, FEW * scale, Path(folder) / "few")
        more, per_answer, guided, _ = trial(recipe, MORE * scale, Path(folder) / "more")
    task = registry.build("task", recipe.task)
    example = task.example()
    phases = []
    for name, link in recipe.links():
        each = max((more[name]["seconds"] - few[name]["seconds"]) / (more[name]["steps"] - few[name]["steps"]), 1e-9)
        asked = asking(link.seconds, 0.0, link.cache.share)
        answer_seconds = min(more[name]["asked"] * link.cache.inputs, math.inf if asked is None else asked)
        steps = link.steps if link.steps is not None else max(round(((link.seconds or 0) - answer_seconds) / each), 1)
        net = build_net(link.student, task.channels, task.describe())[0]
        phases.append(
            Phase(
                phase=name,
                net=_counted(net, example),
                steps_per_second=1 / each,
                steps=steps,
                answer_seconds=answer_seconds,
                seconds=answer_seconds + steps * each if link.seconds is None else link.seconds,
            )
        )
    teacher = None
    if recipe.teacher is not None:
        big = load(recipe.teacher).net
        teacher = _counted(big, example.for_teacher())
    student = phases[-1]
    controls = 0.0
    if recipe.controls and teacher is not None and guided:
        controls = student.steps / student.steps_per_second + sum(phase.seconds for phase in phases)
    return Plan(
        teacher=teacher,
        phases=phases,
        control_seconds=controls,
        seconds=sum(phase.seconds for phase in phases) + controls,
        disk_bytes=per_answer * recipe.cache.inputs,
        memory_bytes=_peak(),
    )


def _counted(net: nn.Module, example: Batch) -> Net:
    taken = input_shape(net, example.x, example.cond) if example.x.ndim == 4 else InputShape()
    return Net(
        num_params=cost.num_params(net),
        macs=cost.macs(net, example.x, example.cond),
        sizes=None if taken == InputShape() else str(taken),
    )


def trial_scale(recipe: Recipe) -> int:
    """By how much a trial has to be longer so that the least of a chain's nets gets a whole share of it."""
    least = min([1 - sum(a.share for a in recipe.assistants), *(a.share for a in recipe.assistants)])
    return math.ceil(1 / least)


def trial(recipe: Recipe, steps: int, folder: Path) -> tuple[dict[str, dict[str, Any]], int, bool, float]:
    """Run a few steps: by phase steps, seconds, and those for an answer; its bytes; whether controls are had.

    Last come the seconds for images that a model drew.
    """
    inputs = min(recipe.cache.inputs, max(ASKED, recipe.batch_size))
    cache = recipe.cache.model_copy(update={"inputs": inputs, "dir": str(folder / "cache")})
    brief = {"cache": cache, "controls": False, "evaluate_every": None, "checkpoint_every": 1e9}
    short = recipe.model_copy(update=brief).lasting(steps=steps)
    last, spent, phases = short.links()[-1][0], dict[str, float](), dict[str, dict[str, Any]]()
    guided, drawing = True, 0.0
    for event in distill(short, folder / "run"):
        if event.kind == "start":
            guided = event.data["guided"]
            drawn = event.data["state"]["phases"].get(short.links()[0][0], {}).get("drawing")
            drawing = float(drawn or 0.0)
        if event.kind == "answers":
            spent[event.phase] = (event.data["seconds"] - event.data.get("tried", 0.0)) / max(event.data["done"], 1)
        if event.kind == "phase":
            each = event.data["seconds"] - event.data["tried"]
            phases[event.phase] = {"steps": event.data["steps"], "seconds": each, "asked": spent.get(event.phase, 0.0)}
            if event.phase == last:
                break
    shards = [load_file(file) for file in (folder / "cache").rglob("*.safetensors")]
    num_bytes = sum(column.nbytes for shard in shards for column in shard.values())
    return phases, num_bytes // max(inputs, 1), guided, drawing


def _peak() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
