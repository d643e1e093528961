"""What the folder of a run says of it: read anew by whoever looks, so that nothing is lost with a page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdgen.recipe import Recipe, read
from kdgen.report.events import read_events
from kdgen.report.loss_curves import NOT_TERMS, curves_of
from kdgen.report.report import Report
from kdgen.types import UserError

Curves = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
FRESH = 6.0
"""Seconds after the last step for which its speed is still said."""

FOLLOWED = ("answers", "step", "phase", "report", "done")
"""Kinds of events that say how far a run is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as it stands.

    Attributes:
        folder: of the run.
        phases: what it consists of, in order: ``answers`` and the phases, then ``report``.
        phase: the one it is in; empty before the first.
        share: of that phase that is done, in [0, 1].
        overall: of the run that is done, in [0, 1].
        seconds_left: of the whole run, None while that cannot be told.
        images_per_second: in training, 0 in other phases.
        terms: of the loss, at the last step.
        primary_metric: the metric that decides.
        phases: steps and evaluations by phase, as ``kdgen.report.loss_curves.curves_of`` gives them.
        warnings: what the run said.
    """

    folder: Path
    phases: tuple[str, ...] = ()
    phase: str = ""
    share: float = 0.0
    overall: float = 0.0
    seconds_left: float | None = None
    images_per_second: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)
    primary_metric: str = "psnr"
    curves: Curves = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def preview(self) -> Path | None:
        """The newest picture of the student beside its teacher."""
        found = [self.folder / name for name in ("samples.png", "preview.png")]
        return next((path for path in found if path.is_file()), None)

    def report(self) -> Report | None:
        """The report, once there is one."""
        try:
            return Report.read(self.folder)
        except UserError:
            return None


def follow(folder: Path) -> Progress:
    """How far the run in a folder is; an empty one for a folder with nothing in it."""
    log = folder / "metrics.jsonl"
    try:
        state = log.stat()
    except OSError:
        return Progress(folder)
    return _follow(folder, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _follow(folder: Path, changed: int, size: int) -> Progress:
    try:
        recipe = read(folder / "recipe.json")
    except UserError:
        return Progress(folder)
    events = read_events(folder / "metrics.jsonl")
    last = next((event for event in reversed(events) if event["kind"] in FOLLOWED),
                None)  # fmt: skip
    start: dict[str, Any] = next((event for event in events if event["kind"] == "start"), {"data": {}})
    phases = phases_of(recipe, guided=bool(start["data"].get("guided", True)))
    messages = tuple(str(event["data"].get("message", "")) for event in events if event["kind"] == "warning")
    progress = Progress(folder, phases=phases, primary_metric=str(start["data"].get("primary_metric", "psnr")),
                        curves=curves_of(events), warnings=messages)  # fmt: skip
    return progress if last is None else _at(progress, last, recipe, changed)


def _at(progress: Progress, last: Mapping[str, Any], recipe: Recipe, changed: int) -> Progress:
    """The progress with what its last event says."""
    data, phase, share = last["data"], last["phase"], float(last.get("progress", 0.0))
    if last["kind"] == "answers":
        phase, share = "answers", data["done"] / max(data["total"], 1)
    elif last["kind"] == "phase":
        later = progress.phases[progress.phases.index(phase) + 1 :] if phase in progress.phases else ()
        phase, share = (later or ("report",))[0], 0.0
    elif last["kind"] in ("report", "done"):
        phase, share = "report", 1.0
    spans = [_span(each, recipe) for each in progress.phases]
    at = progress.phases.index(phase) if phase in progress.phases else 0
    overall = (sum(spans[:at]) + share * spans[at]) / max(sum(spans), 1e-9) if spans else 0.0
    left = data.get("seconds_left")
    if left is None and recipe.seconds is not None:
        left = (1 - share) * spans[at]
    rest = sum(spans[at + 1 :]) * (recipe.seconds is not None)
    fresh = last["kind"] == "step" and time.time() - changed / 1e9 < FRESH
    terms = {key: value for key, value in data.items() if key not in NOT_TERMS and isinstance(value, float)}
    return Progress(
        progress.folder, progress.phases, phase, share, overall, None if left is None else left + rest,
        float(data.get("images_per_second", 0.0)) if fresh else 0.0, terms if last["kind"] == "step" else {},
        progress.primary_metric, progress.curves, progress.warnings,
    )  # fmt: skip


def phases_of(recipe: Recipe, *, guided: bool) -> tuple[str, ...]:
    """What a run of a recipe goes through; ``guided`` where a net could be trained without the teacher."""
    answers = ("answers",) if recipe.cache.inputs and recipe.teacher is not None else ()
    chain = tuple(name for name, _ in recipe.links())
    controls = ("control_steps", "control_seconds") if recipe.controls and recipe.teacher and guided else ()
    return (*answers, *chain, *controls, "report")


def _span(phase: str, recipe: Recipe) -> float:
    """Seconds that a phase may take, for a bar that moves evenly; of a recipe in steps, shares of it."""
    length = recipe.seconds or 100.0
    if phase in ("answers", "report"):
        return 0.15 * length + (10.0 if phase == "report" and recipe.seconds else 0.0)
    lengths = {name: (link.seconds or link.steps or 0) for name, link in recipe.links()}
    total = sum(lengths.values()) or 1
    return length * lengths.get(phase, total) / total
