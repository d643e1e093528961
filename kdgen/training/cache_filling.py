"""A phase's cached answers: asked within its share of the seconds, counted, timed, and noted in the run's journal."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from kdgen.training.equivariance import Equivariance
from kdgen.training.run_log import Journal
from kdgen.training.schedule import asking
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import Event, Task, text
from kdgen.utils.distributed import Team


class CacheFilling:
    """The cache of a phase.

    Args:
        cache: of inputs, and answers where there is a teacher.
        phase: whose.
        journal: where it is noted how long it took, and how much of the cache is used.
        team: the first of its processes fills the cache.
    """

    def __init__(self, cache: TeacherCache, *, phase: str, journal: Journal, team: Team) -> None:
        self.cache, self.phase, self.journal, self.team = cache, phase, journal, team
        cache.size = journal.phase(phase).inputs or cache.spec.inputs
        self._counted = False

    @property
    def short(self) -> bool:
        """Whether there was not the time to ask the teacher about all of its inputs."""
        return self.cache.size < self.cache.spec.inputs

    def fill(self, seconds: float | None, spent: float, stopped: Callable[[], bool]) -> Iterator[Event]:
        """Ask the teacher what it has not answered yet, until its share of the phase's seconds is over.

        The cache is then as large as what was answered, for all processes and for the controls too.

        Args:
            seconds: of the phase; None asks everything.
            spent: seconds that went elsewhere before.
            stopped: asked whether to leave.
        """
        cache = self.cache
        if self.team.is_main_process:
            yield from self._fill(seconds, spent, stopped)
        state = (cache.equivariance, cache.size) if self.team.is_main_process else (Equivariance(), 0)
        cache.equivariance, cache.size = self.team.broadcast(state)

    def _fill(self, seconds: float | None, spent: float, stopped: Callable[[], bool]) -> Iterator[Event]:
        cache, journal, phase, total = self.cache, self.journal, self.phase, self.cache.spec.inputs
        before, started, done = journal.phase(phase).answers, time.perf_counter(), 0
        share, took = asking(seconds, spent, cache.spec.share, cache.filled / max(total, 1)), before
        until = None if share is None or self.short else time.monotonic() + share - before
        journal.note(phase, equivariance=asdict(cache.equivariance))
        tried = time.perf_counter() - started
        if not cache.complete:
            journal.note(phase, answers=before, answers_from_disk=False)
        elif journal.phase(phase).answers_from_disk is None:
            journal.note(phase, answers=0.0, answers_from_disk=True)
        for done in cache.fill(until):
            took = before + time.perf_counter() - started
            journal.note(phase, answers=took)
            yield self._answers(done, took, tried=tried, from_disk=False)
            if stopped():
                return
        if not done:
            yield self._answers(cache.size, before, tried=0.0, from_disk=True)
        if (done := cache.filled) < cache.size:
            cache.size = done
            note = text("cache_short", "The teacher answered {done:,} of {total:,} inputs in {took:.0f} s, its share "
                        "of the {seconds:g} s: training goes on with those. They are kept, and another run of the same "
                        "recipe asks on from there; cache.share sets the share.", done=done, total=total, took=took,
                        seconds=seconds)  # fmt: skip
            journal.note(phase, inputs=done, short=note)
            yield self._answers(done, took, tried=tried, from_disk=False)
            yield Event(kind="warning", phase=phase, data={"message": note, "inputs": done})

    def refill(self, stopped: Callable[[], bool]) -> Iterator[Event]:
        """The inputs again, in case they made room for another run's: nobody's seconds."""
        started = time.perf_counter()
        for done in self.cache.fill() if self.team.is_main_process else ():
            yield self._answers(done, time.perf_counter() - started, tried=0.0, from_disk=False)
            if stopped():
                break
        self.team.barrier()

    def untaught(self, task: Task) -> "CacheFilling":
        """As many inputs of another task without anybody's answers, in place of these; itself for its own task."""
        if task is self.cache.task:
            return self
        self.cache.close()
        cache = TeacherCache(task, self.cache.spec, teacher=None)
        other = CacheFilling(cache, phase=self.phase, journal=self.journal, team=self.team)
        cache.size = self.cache.size
        return other

    def _answers(self, done: int, seconds: float, **more: Any) -> Event:
        """An event that counts answers, of all that are used; the first one says what they follow, too."""
        data = {"done": done, "total": self.cache.size, "seconds": seconds, **more}
        data |= {} if self._counted else {"equivariance": asdict(self.cache.equivariance)}
        self._counted = True
        return Event(kind="answers", phase=self.phase, data=data)


__all__ = ["CacheFilling"]
