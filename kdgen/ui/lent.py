"""Runs on an accelerator that is lent to visitors (ZeroGPU): they train in slices, each in a visitor's own request."""

import time
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import gradio as gr

from kdgen.recipe import read
from kdgen.types import UserError, text
from kdgen.ui import markup
from kdgen.ui.job import Job, State
from kdgen.ui.limits import Limits
from kdgen.ui.process import INTERRUPTED, KILLED, Execute, command, end_orphan
from kdgen.ui.progress import follow, reached
from kdgen.ui.runs import Runs, too_long
from kdgen.ui.sessions import session_of
from kdgen.ui.watch import View
from kdgen.ui.words import words_for

LEFT = "closed by visitor"
"""What `spaces` says where a visitor left while waiting for a slice."""

LONGEST = 4
"""How many times the usual length a slice may grow to, for a phase that cannot be cut or takes long to go on."""

WORTH = 0.25
"""The share of a slice that is to be training; one that took more of its time to go on is followed by a longer one."""


class LentRuns(Runs):
    """Runs that train while a visitor holds the accelerator for them, under that visitor's quota, and wait meanwhile.

    A phase that cannot be cut begins anew in every slice, and every slice takes a while until it goes on. So a slice
    that brought a run no further, or hardly, is followed by longer ones, and a run that the longest brings no further
    has failed.

    Args:
        limits: bounds, the folder, and the length of a slice.
        executing: runs a process on the accelerator; called within the request that asks for a slice.
    """

    def __init__(self, limits: Limits, executing: Execute) -> None:
        self._held: set[str] = set()
        self._reached: dict[str, tuple[int, float]] = {}
        self._stretch: dict[str, int] = {}
        super().__init__(limits, executing, workers=0)

    def hold(self, id: str, session: str) -> Job:
        """Train a run for one slice. Does nothing for one that is over or held, or while as many train as may at once.

        Raises:
            UserError: with the reason for which no slice was given, for example a quota used up; the run is stopped
                then, unless the visitor only left while waiting for it.
        """
        with self._changed:
            job = self.get(id, session)
            if not self.waits(job) or len(self._held) >= self.limits.at_once or self._closed:
                return job
            self._held.add(id)
            self._line = [each for each in self._line if each != id]
            self._note(replace(job, state="running"))
        home, begun = self.folder / id, time.monotonic()
        state: State = "stopped"
        message = ""
        try:
            end_orphan(home)
            seconds = self._length(id)
            code = self.executing(command(home), home, seconds)
            state, message = self._outcome(home, code)
            took = time.monotonic() - begun
            if state == "failed" and (code in INTERRUPTED or (code in KILLED and took >= seconds)):
                state, message = self._judge(id, home, job.held + took)
        except Exception as error:
            told = error.message if isinstance(error, gr.Error) else str(error)
            reason = " ".join(told.split())[:300]
            if LEFT not in reason:
                message = reason or type(error).__name__
                raise UserError(message) from None
            state = "running"
        finally:
            with self._changed:
                self._held.discard(id)
                if self._closed and state == "stopped":
                    state = "queued"
                ended = 0.0 if state in ("queued", "running") else time.time()
                held = job.held + time.monotonic() - begun
                job = replace(self._jobs[id], state=state, message=message, ended=ended, held=held)
                self._note(job)
        return job

    def waits(self, job: Job) -> bool:
        """Whether nobody holds the accelerator for a run that is not over."""
        return not job.over and job.id not in self._held

    def _length(self, id: str) -> float:
        """Seconds of the next slice of a run."""
        return float(self.limits.slice_seconds * self._stretch.get(id, 1))

    def _judge(self, id: str, home: Path, held: float) -> tuple[State, str]:
        """After a slice whose time was up: go on, or give up and why; ``held`` counts seconds of all its slices."""
        if held > self.limits.wall_seconds:
            return "failed", too_long(self.limits.wall_seconds)
        now, stretch, before = reached(home / "run"), self._stretch.get(id, 1), self._reached.get(id, (-2, 0.0))
        if now > before:
            self._reached[id] = now
        if now <= before and stretch >= LONGEST:
            return "failed", text("slice_too_short", "its phase {phase} takes longer than the {seconds:.0f} s for "
                                  "which an accelerator is lent at a time: make the run smaller",
                                  phase=follow(home / "run").phase or "start", seconds=self._length(id))  # fmt: skip
        if stretch < LONGEST and _trained(home, before, now) < WORTH * self._length(id):
            self._stretch[id] = 2 * stretch
        return "running", ""


def _trained(home: Path, before: tuple[int, float], now: tuple[int, float]) -> float:
    """Seconds of training between two places of a run: infinitely many where its phase or its length does not say."""
    if now <= before:
        return 0.0
    seconds = read(home / "recipe.json").seconds
    return inf if seconds is None or before[0] != now[0] else seconds * (now[1] - before[1])


def hold_while_watched(runs: Runs, shown: View, notice: gr.HTML) -> None:
    """Let the page hold the accelerator for the run that it shows, slice after slice, as long as it is open.

    The event is queued: the browser sends the visitor's token with those, so that their quota counts.
    """
    if not isinstance(runs, LentRuns):
        return

    def hold(id: str | None, request: gr.Request) -> Any:
        try:
            runs.hold(id or "", session_of(request))
        except UserError as error:
            return markup.refusal(error, words_for(request)) if id else gr.skip()
        return gr.skip()

    shown.timer.tick(hold, [shown.chosen], [notice], queue=True, trigger_mode="once", concurrency_limit=None,
                     show_progress="hidden", api_visibility="private")  # fmt: skip
