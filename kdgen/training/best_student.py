"""The best state of a net: kept while it trains, and put beside the last one when it has ended."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from kdgen.metrics import watched
from kdgen.models.model import Model, load
from kdgen.report.report import ROLES, outdoes, worded
from kdgen.training.run_log import Journal
from kdgen.training.run_state import Choice, RunState
from kdgen.types import Event, Task, Text, text
from kdgen.utils.convert import write_text
from kdgen.utils.devices import device_of


class BestStudent:
    """Keeps the state of a phase that did best in quick evaluations in `best/PHASE`, with its figure in `best.json`.

    Args:
        phase: the net that is trained.
        folder: of the run.
        journal: its notes, of the choice at the end too.
        task: measures.
        primary_metric: the metric that decides.
        reference: the teacher that is measured against, or None.
    """

    def __init__(
        self,
        phase: str,
        *,
        folder: Path,
        journal: Journal,
        task: Task,
        primary_metric: str,
        reference: nn.Module | None,
    ) -> None:
        self.phase, self.folder, self.journal = phase, folder / "best" / phase, journal
        self.task, self.primary_metric, self.reference = task, primary_metric, reference

    def offer(self, now: Model, event: Event) -> None:
        """Keep a net if no quick evaluation before was better.

        Args:
            now: the net as it is.
            event: its quick evaluation.
        """
        figure, record = event.data.get(self.primary_metric), self._record()
        if figure is None or (record is not None and not outdoes(self.primary_metric, figure, record["figure"])):
            return
        now.save(self.folder)
        record = {"figure": figure, "step": event.step, "seconds": event.data["seconds"]}
        write_text(self.folder / "best.json", json.dumps(record) + "\n")

    def choose(self, last: Model, steps: int) -> Model:
        """Of the net as it ended and as it did best, the better one over the whole evaluation.

        That is asked only where a quick evaluation of the last is worse than the best one.

        Args:
            last: the net as it ended.
            steps: that it was trained for.
        """
        record = self._record()
        if record is None or record["step"] >= steps:
            return last
        if not _better(self.primary_metric, record["figure"], self._measured(last, self.task.quick_eval_images)):
            return last
        best = load(self.folder).to(device_of(last.net))
        best_figures, last_figures = self._measured(best), self._measured(last)
        kept = _better(self.primary_metric, best_figures, last_figures)
        choice = Choice(
            best_step=record["step"], best_seconds=record["seconds"], best=_plain(best_figures),
            last_step=steps, last=_plain(last_figures), kept="best" if kept else "last",
        )  # fmt: skip
        self.journal.note(self.phase, choice=choice)
        return best if kept else last

    def _record(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self.folder / "best.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record

    def _measured(self, model: Model, limit: int | None = None) -> float:
        with watched(model.net):
            figures = self.task.evaluate(model.net, reference=self.reference, limit=limit)
        return float(figures.get(self.primary_metric, math.nan))


def best_and_last(state: RunState, phases: Iterable[str], primary_metric: str) -> Text:
    """A sentence on the nets whose best state was not their last; empty where there are none."""
    choices = {phase: choice for phase in phases if (choice := state.phase(phase).choice)}
    if not choices:
        return Text("")
    return text("best_and_last", "Best and last state differ: {differences:; }. The better one was kept, by figures on "
                "the images of this evaluation: a choice that favours them a little, made for all nets alike.",
                differences=[_difference(phase, choice, primary_metric) for phase, choice in choices.items()]
                )  # fmt: skip


def _difference(phase: str, choice: Choice, primary_metric: str) -> Text:
    name = next((words for role, words in ROLES.items() if role == phase), phase.replace("_", " "))
    best, last = (worded(primary_metric, math.nan if value is None else value) for value in (choice.best, choice.last))
    kept = text("kept_best", "best") if choice.kept == "best" else text("kept_last", "last")
    return text("best_differs", "{name}, {best} at step {best_step:,} ({seconds:.0f} s) and {last} at its last step "
                "{last_step:,}, kept the {kept}", name=name, best=best, best_step=choice.best_step,
                seconds=choice.best_seconds, last=last, last_step=choice.last_step, kept=kept)  # fmt: skip


def _better(metric: str, value: float, other: float) -> bool:
    """Whether a figure is better than another; any is better than one that is no number."""
    return math.isfinite(value) and (not math.isfinite(other) or outdoes(metric, value, other))


def _plain(figure: float) -> float | None:
    return figure if math.isfinite(figure) else None


__all__ = ["BestStudent", "best_and_last"]
