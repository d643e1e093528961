"""What the folder of a run says of it: read anew by whoever looks, so that nothing is lost with a page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdgen.models.task_arguments import task_class
from kdgen.recipe import read
from kdgen.report.events import read_events
from kdgen.report.loss_curves import NOT_TERMS, curves_of
from kdgen.report.report import Report
from kdgen.training import timing
from kdgen.types import Text, UserError
from kdgen.ui.estimates import GUESS, expected
from kdgen.ui.process import EVENTS

Curves = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
FRESH = 6.0
"""Seconds after the last step for which its speed is still said."""

UNCOUNTED = ("warning", "checkpoint")
"""Kinds of events that say nothing of how far a run is."""

OVERRUN = 1.2
"""What a phase that takes longer than expected is thought to take, relative to what it took so far."""

RATIO = (0.25, 8.0)
"""Bounds of how much slower than expected the rest of a run is thought to be."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run as it stands.

    Attributes:
        folder: of the run.
        phases: what it consists of, in order: ``images``, ``answers`` and the chain, the controls, then ``report``.
        phase: the one it is in; empty before the first.
        share: of that phase that is done, in [0, 1].
        overall: of the run's time that is over, in [0, 1].
        seconds_left: of the whole run, None while nothing is known of it.
        images_per_second: in training, 0 in other phases.
        part: what of the phase is done now, and how many of how many: ``answers 300 3000``, ``teacher 1 5``.
        terms: of the loss, at the last step.
        primary_metric: the metric that decides.
        quick_images: how many images its quick evaluations are of, 0 where that is not known.
        curves: steps and evaluations by phase, as ``kdgen.report.loss_curves.curves_of`` gives them.
        warnings: what the run said.
    """

    folder: Path
    phases: tuple[str, ...] = ()
    phase: str = ""
    share: float = 0.0
    overall: float = 0.0
    seconds_left: float | None = None
    images_per_second: float = 0.0
    part: tuple[str, int, int] | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    primary_metric: str = "psnr"
    quick_images: int = 0
    curves: Curves = field(default_factory=dict)
    warnings: tuple[Text, ...] = ()

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
    try:
        log = (folder / "metrics.jsonl").stat()
    except OSError:
        return _before(folder)
    known = _read(folder, log.st_mtime_ns, log.st_size)
    return _timed(known, time.time()) if known.last else known.progress


def reached(folder: Path) -> tuple[int, float]:
    """The number of the phase that a run was last heard of in, and the share of it that was done then.

    Unlike ``follow`` it does not guess by the time that passed since.
    """
    try:
        log = (folder / "metrics.jsonl").stat()
    except OSError:
        return -1, 0.0
    known = _read(folder, log.st_mtime_ns, log.st_size)
    if not known.last:
        return -1, 0.0
    order, phase = [*known.spans], timing.phase_of(known.last)
    return order.index(phase) if phase in order else 0, _share(known.last, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the log of a run says."""

    progress: Progress
    last: Mapping[str, Any]
    took: Mapping[str, float]
    spans: Mapping[str, float]


@lru_cache(maxsize=64)
def _read(folder: Path, changed: int, size: int) -> _Known:
    try:
        recipe = read(folder / "recipe.json")
    except UserError:
        return _Known(Progress(folder), {}, {}, {})
    events = [{"time": changed / 1e9, **event} for event in read_events(folder / "metrics.jsonl")]
    counted = [event for event in events if event["kind"] not in UNCOUNTED]
    start: dict[str, Any] = next((event for event in events if event["kind"] == "start"), {"data": {}})
    guided = bool(start["data"].get("guided", True))
    spans = dict(expected(folder.parent) or timing.spans(recipe, GUESS))
    if not guided:
        spans = {name: seconds for name, seconds in spans.items() if not name.startswith("control")}
    messages = tuple(Text.of(event["data"].get("message", "")) for event in events if event["kind"] == "warning")
    phases = tuple(name for name in spans if name != timing.START)
    progress = Progress(folder, phases=phases, primary_metric=str(start["data"].get("primary_metric", "psnr")),
                        quick_images=task_class({"name": recipe.task.name}).quick_eval_images,
                        curves=curves_of(events), warnings=messages)  # fmt: skip
    return _Known(progress, counted[-1] if counted else {}, timing.walls(_worked(counted)), spans)


def _worked(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Events with the time between a stop and the next start taken out."""
    kept: list[Mapping[str, Any]] = []
    idle = 0.0
    for event in events:
        if kept and event["kind"] == "start":
            idle += max(event["time"] - idle - kept[-1]["time"], 0.0)
        kept.append({**event, "time": event["time"] - idle})
    return kept


def _timed(known: _Known, now: float) -> Progress:
    """A run at a moment: what is over is known, the rest is as expected, as much slower as what is over was."""
    last, data = known.last, known.last["data"]
    order = [*known.spans]
    phase = timing.phase_of(last)
    idle = max(now - last["time"], 0.0)
    took = {**known.took, phase: known.took.get(phase, 0.0) + idle}
    share = _share(last, took[phase], known.spans.get(phase, 1.0))
    at = order.index(phase) if phase in order else 0
    ended = [name for name in order[:at] if name in known.took and known.spans[name] > 0]
    ratio = sum(known.took[name] for name in ended) / max(sum(known.spans[name] for name in ended), 1e-9)
    ratio = min(max(ratio, RATIO[0]), RATIO[1]) if ended else 1.0
    whole = known.spans.get(phase, 1.0) * ratio
    measured = took[phase] / share if share > 0 else whole
    whole = share * measured + (1 - share) * max(whole, OVERRUN * took[phase])
    left = max(whole - took[phase], 0.0) + ratio * sum(known.spans[name] for name in order[at + 1 :])
    if last["kind"] == "done":
        share, left = 1.0, 0.0
    over = sum(took.values())
    fresh = last["kind"] == "step" and idle < FRESH
    terms = {key: value for key, value in data.items() if key not in NOT_TERMS and isinstance(value, float)}
    part = None
    if last["kind"] in ("answers", "part") and data.get("total", 0) > 1:
        part = (str(data.get("part", "answers")), int(data["done"]), int(data["total"]))
    return replace(
        known.progress, phase=phase if phase != timing.START else "", share=share,
        overall=over / max(over + left, 1e-9), seconds_left=left, part=part,
        images_per_second=float(data.get("images_per_second", 0.0)) if fresh else 0.0,
        terms=terms if last["kind"] == "step" else {},
    )  # fmt: skip


def _share(last: Mapping[str, Any], took: float, expected: float) -> float:
    """How much of its phase is done after an event."""
    data, kind = last["data"], last["kind"]
    if kind == "phase":
        return 1.0
    if kind == "answers":
        counted = data["done"] / max(data["total"], 1)
        return float(min(max(counted, took / max(expected, took, 1e-9)), 1.0))
    return float(last["progress"])


def _before(folder: Path) -> Progress:
    """A run that has no folder yet: getting ready, or drawing images to be trained on."""
    spans = expected(folder.parent)
    phases = tuple(name for name in spans if name != timing.START)
    total = sum(spans.values())
    try:
        events = read_events(folder.parent / EVENTS)
    except OSError:
        events = []
    images = next((event for event in reversed(events) if event["kind"] == timing.IMAGES), None)
    if images is None:
        return Progress(folder, phases=phases, seconds_left=total or None)
    share = float(images["progress"])
    phases = phases if timing.IMAGES in phases else (timing.IMAGES, *phases)
    span = spans.get(timing.IMAGES, 0.0)
    return Progress(
        folder, phases=phases, phase=timing.IMAGES, share=share, overall=share * span / max(total, 1e-9),
        seconds_left=total - share * span if span else None,
        part=(timing.IMAGES, int(images["data"]["done"]), int(images["data"]["total"])),
    )  # fmt: skip
