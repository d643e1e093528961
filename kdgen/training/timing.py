"""The time of a whole run on this machine: rates, measured once, kept, and corrected by every run that ends."""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from kdgen import registry
from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.report.sample_grids import Pictured
from kdgen.tasks.drawing import Drawing
from kdgen.training.chain import fresh
from kdgen.training.estimate import ASKED, trial, trial_scale
from kdgen.training.run import distill
from kdgen.training.schedule import Length, asking
from kdgen.training.trainer import QUARTERS
from kdgen.types import Task, UserError
from kdgen.utils.cache import cache_folder, short_hash
from kdgen.utils.convert import write_text
from kdgen.utils.schema import Strict

STEPS = 10
"""Steps of the trial that rates are taken from."""

BLEND = 0.6
"""Weight of a run that ended in the rates, beside what was known before."""

REPORT = "report"
ANSWERS = "answers"
IMAGES = "images"
START = "start"


class Rates(Strict):
    """What the parts of a run take on this machine, in seconds, and whether a run has confirmed it."""

    start: float = Field(description="until the first phase begins")
    drawing: float = Field(0.0, description="for images that a model draws, where they do not lie on disk")
    drawn: bool = Field(False, description="whether these lie on disk by now")
    answer: float = Field(0.0, description="an input with the teacher's answer")
    step: float = Field(description="a step of the student")
    alone: float = Field(1.0, description="the control of equal steps, relative to the student")
    look: float = Field(description="a quick evaluation")
    reference: float = Field(0.0, description="what the first quick evaluation takes for the teacher")
    teacher: float = Field(0.0, description="measuring the teacher for the report")
    student: float = Field(description="measuring another net for the report")
    closing: float = Field(description="the rest of the report")
    filled: int = Field(0, description="inputs whose answers lie on disk by now")
    guided: bool = Field(True, description="whether there are controls, where the recipe wants them")
    runs: int = Field(0, description="finished runs that went into it")


def key_of(recipe: Recipe) -> str:
    """What rates are kept under: nets, task and batches, but neither length, seed nor learning rate."""
    data = recipe.model_dump(
        mode="json", include={"task", "teacher", "teachers", "student", "assistants", "batch_size"}
    )
    terms = [[term.name for term in (*stage.methods, *stage.objectives)] for stage in recipe.stages]
    return short_hash(json.dumps([2, data, terms, recipe.cache.inputs > 0, recipe.cache.crop], sort_keys=True))


def known(recipe: Recipe, root: Path | None = None) -> Rates | None:
    """The rates of a recipe's nets; None where they were never measured."""
    try:
        return Rates.model_validate_json(_file(recipe, root).read_bytes())
    except (OSError, ValueError):
        return None


def keep(recipe: Recipe, rates: Rates, root: Path | None = None) -> None:
    """Keep rates for later."""
    path = _file(recipe, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, rates.model_dump_json())


def measure(recipe: Recipe, folder: Path) -> Rates:
    """Measure the rates of a recipe by a few answers, steps and evaluations.

    Args:
        recipe: of the run.
        folder: for the trial, which leaves its files there.

    Raises:
        UserError: for whatever the run itself would refuse.
    """
    began = time.perf_counter()
    phases, _, guided, drawing = trial(recipe, STEPS * trial_scale(recipe), folder)
    spent = sum(phase["seconds"] for phase in phases.values())
    asked = sum(phase["asked"] for phase in phases.values()) * max(ASKED, recipe.batch_size)
    start = max(time.perf_counter() - began - spent - asked - drawing, 0.1)
    task = registry.build("task", recipe.task)
    student = fresh(recipe, task)[0]
    reference = load(recipe.teacher).eval().net if recipe.teacher is not None else None
    quick = min(task.quick_eval_images, num_images(task))
    first = _seconds(task, student, reference, quick)
    look = _seconds(task, student, reference, quick)
    each = look / max(quick, 1)
    teacher = 0.0
    if reference is not None:
        teacher = _seconds(task, reference, reference, quick) / max(quick, 1) * num_images(task)
    last = phases[list(phases)[-1]]
    return Rates(
        start=start, drawing=drawing, drawn=True, answer=last["asked"], step=last["seconds"] / max(last["steps"], 1),
        look=look, reference=max(first - look, 0.0), teacher=teacher, student=each * num_images(task),
        closing=2.0 + 20 * each, guided=guided,
    )  # fmt: skip


def num_images(task: Task) -> int:
    """How many images a net is measured on for the report."""
    if isinstance(task, Drawing):
        return task.num_images
    return sum(1 for _ in task.evaluation_images()) if isinstance(task, Pictured) else task.quick_eval_images


def fill(recipe: Recipe, folder: Path) -> Iterator[int]:
    """Ask the teacher of a recipe ahead of its run, as the run itself would; yields the answers on disk as they grow.

    Args:
        recipe: of the run.
        folder: for trials, which leave their files there.
    """
    done, before, number = 0, -1, 0
    while before < done < recipe.cache.inputs or not number:
        before, number = done, number + 1
        for event in distill(recipe, folder / str(number)):
            if event.kind == "answers":
                done = max(done, int(event.data["done"]))
                yield done
            elif event.kind == "stopped":
                return
            elif event.kind in ("part", "step"):
                break


def spans(recipe: Recipe, rates: Rates) -> dict[str, float]:
    """Seconds of each phase of a run, in order: ``start``, ``images``, ``answers``, chain, controls, ``report``.

    Args:
        recipe: of the run.
        rates: of its nets.
    """
    found = {START: rates.start}
    drawing = 0.0 if rates.drawn else rates.drawing
    if drawing:
        found[IMAGES] = drawing
    taught = recipe.teacher is not None
    for name, link in recipe.links():
        answers = 0.0
        if taught and link.cache.inputs:
            share = asking(link.seconds, drawing, link.cache.share, min(rates.filled / link.cache.inputs, 1.0))
            answers = min(rates.answer * max(link.cache.inputs - rates.filled, 0), math.inf if share is None else share)
            found[ANSWERS] = found.get(ANSWERS, 0.0) + answers
        training = Length(link.steps, link.seconds, drawing + answers).training
        found[name] = (link.steps or 0) * rates.step if training is None else training
        found[name] += _looks(recipe, found[name]) * rates.look
    student = found["student"]
    if recipe.controls and taught and rates.guided:
        found["control_steps"] = student * rates.alone
        made = sum(seconds for name, seconds in found.items() if name not in (START, "control_steps"))
        found["control_seconds"] = recipe.seconds or made
        if recipe.seconds:
            found["control_seconds"] += _looks(recipe, recipe.seconds) * rates.look
    if "student" in found and recipe.evaluate_every is not None:
        found["student"] += rates.reference
    nets = len(recipe.links()) + sum(name.startswith("control") for name in found)
    found[REPORT] = rates.teacher + nets * rates.student + rates.closing
    return found


def learned(recipe: Recipe, events: Iterable[Mapping[str, Any]], before: Rates, began: float) -> Rates:
    """Rates corrected by a run that ended.

    Args:
        recipe: of the run.
        events: its events with their times.
        before: what was known.
        began: when the run was begun, in seconds since the epoch.
    """
    timed = [event for event in events if "time" in event]
    seconds = walls(timed)
    nets = len(recipe.links()) + sum(name.startswith("control") for name in seconds)
    update: dict[str, float] = {}
    first_phase = next((event["time"] for event in timed if phase_of(event) != START), None)
    if first_phase is not None:
        update["start"] = max(first_phase - began - seconds.get(IMAGES, 0.0), 0.1)
    if seconds.get(REPORT):
        known_report = before.teacher + nets * before.student + before.closing
        factor = seconds[REPORT] / max(known_report, 1e-9)
        update |= {name: getattr(before, name) * factor for name in ("teacher", "student", "closing")}
    if seconds.get("control_steps") and seconds.get("student"):
        update["alone"] = seconds["control_steps"] / seconds["student"]
    asked = [event["data"] for event in timed if event["kind"] == "answers"]
    filled = max([before.filled, *(int(data["done"]) for data in asked)])
    answered = [data for data in asked if not data.get("from_disk")]
    if answered and answered[-1]["done"] > answered[0]["done"]:
        first, last = answered[0], answered[-1]
        update["answer"] = (last["seconds"] - first["seconds"]) / (last["done"] - first["done"])
    for event in timed:
        if event["kind"] == "phase" and event["phase"] == "student":
            update["step"] = event["data"]["seconds"] / max(event["data"]["steps"], 1)
            looks = sum(each["kind"] == "evaluate" and each["phase"] == "student" for each in timed)
            beside = seconds.get("student", 0.0) - event["data"]["seconds"] - before.reference
            if looks:
                update["look"] = max(beside / looks, 0.0)
    blended = {name: BLEND * value + (1 - BLEND) * getattr(before, name) for name, value in update.items()}
    return before.model_copy(update={**blended, "drawn": True, "filled": filled, "runs": before.runs + 1})


def walls(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of the clock that each phase took, or has taken so far, from events with their times."""
    found: dict[str, float] = {}
    phase, last = "", 0.0
    for event in events:
        now = event["time"]
        if phase:
            found[phase] = found.get(phase, 0.0) + now - last
        phase, last = phase_of(event), now
    return found


def phase_of(event: Mapping[str, Any]) -> str:
    """The phase that a run is in after an event."""
    kind = event["kind"]
    if kind in ("start", "teacher"):
        return START
    if kind in ("answers", "images"):
        return str(kind)
    return REPORT if kind in ("report", "done") else str(event["phase"])


def _looks(recipe: Recipe, seconds: float) -> int:
    """Quick evaluations of a phase."""
    if recipe.evaluate_every is None:
        return 0
    return len(QUARTERS) if recipe.steps is not None else int(seconds / recipe.evaluate_every)


def _seconds(task: Task, net: Any, reference: Any, limit: int) -> float:
    began = time.perf_counter()
    try:
        task.evaluate(net, reference=reference, limit=limit)
    except UserError:
        return 0.0
    return time.perf_counter() - began


def _file(recipe: Recipe, root: Path | None) -> Path:
    return cache_folder("rates", str(root) if root is not None else None) / f"{key_of(recipe)}.json"


__all__ = ["Rates", "keep", "key_of", "known", "learned", "measure", "phase_of", "spans", "walls"]
