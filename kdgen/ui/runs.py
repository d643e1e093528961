"""The runs of all visitors: a line, a bounded number at work, and each to be seen and stopped by its owner alone."""

import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from kdgen.recipe import Recipe
from kdgen.types import Text, UserError, text
from kdgen.types.text import restored, with_texts
from kdgen.ui import disk, own
from kdgen.ui.job import ID, Job, State, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.process import STOP, Execute, command, complaint, end_orphan, environment, execute, showing
from kdgen.ui.spare import Spare
from kdgen.utils.convert import write_text

SWEEP_EVERY = 60.0
SHOWING_SECONDS = 90.0
"""For the pictures of a finished run."""
SERVED = "served"
"""The folder, within that of the app, whose files the page may send; what belongs to a run lies under its place."""


class Runs:
    """The line of runs. Threads of its own take the next one; the page only asks.

    Whatever is decided about a run is decided on its state as it stands under the lock.

    Args:
        limits: bounds, and the folder.
        executing: how a process is run; by default on this machine, its memory bounded.
        workers: threads that take the next run of the line; by default as many as may train at once.
    """

    def __init__(self, limits: Limits, executing: Execute | None = None, *, workers: int | None = None) -> None:
        self.limits, self.folder = limits, limits.folder / "runs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.own = own.Own(limits)
        env = environment(limits.folder / "cache")
        self.spare = Spare(env) if executing is None else None
        local = partial(execute, env=env, memory=limits.memory_bytes, spare=self.spare)
        self.executing: Execute = executing or local
        self.on_done: Callable[[Path, float], None] = lambda home, began: None
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._line: list[str] = []
        self._closed = False
        self._recover()
        count = limits.at_once if workers is None else workers
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        if self.spare is not None:
            self.spare.prepare()
        for worker in [*self._workers, threading.Thread(target=self._keep_sweeping, daemon=True)]:
            worker.start()

    # -- what visitors do ----------------------------------------------------------------------------------------

    def submit(self, recipe: Recipe, session: str, *, again: float = 0.0) -> Job:
        """Put a run at the end of the line; the same asked for again within ``again`` seconds is the one there is.

        Raises UserError where the line or the session's share is full.
        """
        job = Job(secrets.token_hex(6), owner_of(session), recipe.name, recipe.task.name, time.time())
        home, written = self.folder / job.id, recipe.to_json() + "\n"
        brought = [self.brought(each, session) for each in own.brought(written)]
        with self._changed:
            recent = [other for other in self.owned_by(session) if job.created - other.created < again] if again else []
            for other in recent:
                if not other.over and (self.folder / other.id / "recipe.json").read_text("utf-8") == written:
                    return other
            self._make_room(job.owner)
            home.mkdir()
            try:
                for folder in brought:
                    own.copy(folder, home)
                write_text(home / "recipe.json", written)
            except OSError:  # a full disk, or what was brought was swept away meanwhile
                shutil.rmtree(home, ignore_errors=True)
                raise
            self._enter(job)
        return job

    def resume(self, id: str, session: str) -> Job:
        """Go on with a run that was stopped or failed, from its last checkpoint."""
        with self._changed:
            job = self.get(id, session)
            if job.state not in ("stopped", "failed"):
                raise UserError(text("no_resuming", "this run needs no resuming: it is done, waits or trains"))
            self._make_room(job.owner)
            (self.folder / id / STOP).unlink(missing_ok=True)
            job = replace(job, state="queued", message="", ended=0.0)
            self._enter(job)
        return job

    def stop(self, id: str, session: str) -> Job:
        """Stop a run, or take it out of the line. What it has learned is kept."""
        with self._changed:
            job = self.get(id, session)
            if job.over:
                return job
            if id in self._line or self.waits(job):
                self._line = [each for each in self._line if each != id]
                self._note(replace(job, state="stopped", ended=time.time()))
            else:
                (self.folder / id / STOP).touch()
            return self._jobs[id]

    def waits(self, job: Job) -> bool:
        """Whether a run goes on only once its visitor is back: never where no accelerator is lent."""
        return False

    def delete(self, id: str, session: str) -> None:
        """Remove a run and all it left. Raises UserError while it is at work."""
        with self._changed:
            job = self.get(id, session)
            if not job.over:
                raise UserError(text("run_not_over", "this run is not over yet: stop it first"))
            self._remove(job)

    def get(self, id: str, session: str) -> Job:
        """A run of this session. Raises UserError for all others, whether they exist or not."""
        owner = owner_of(session)
        with self._changed:
            job = self._jobs.get(id) if isinstance(id, str) and ID.fullmatch(id) else None
        if job is None or job.owner != owner:
            raise UserError(text("no_such_run", "there is no such run of yours: it was deleted, swept away, or belongs "
                                 "to somebody else"))  # fmt: skip
        return job

    def brought(self, reference: object, session: str, kind: own.Kind | None = None) -> Path:
        """The folder of what this session brought, for an hour or with a run. Raises UserError for anything else."""

        def places() -> Iterator[Path]:
            yield self.own.folder / owner_of(session)
            yield from (self.folder / job.id / own.FOLDER for job in self.owned_by(session))

        return own.find(reference, kind, places())

    def find(self, id: str) -> Job | None:
        """A run of whomever."""
        with self._changed:
            return self._jobs.get(id)

    def all(self) -> list[Job]:
        """The runs of everybody."""
        with self._changed:
            return list(self._jobs.values())

    def owned_by(self, session: str) -> list[Job]:
        """The runs of a session, the newest first."""
        owner = owner_of(session)
        with self._changed:
            jobs = [job for job in self._jobs.values() if job.owner == owner]
        return sorted(jobs, key=lambda job: -job.created)

    def place(self, id: str) -> int:
        """How many runs begin before this one and itself: 0 at work, 1 next in line."""
        with self._changed:
            return self._line.index(id) + 1 if id in self._line else 0

    def busy(self) -> bool:
        """Whether any run is at work or in line."""
        with self._changed:
            return any(not job.over for job in self._jobs.values())

    def home(self, job: Job) -> Path:
        """The folder of a run and of what the app keeps beside it; the run folder itself is ``run`` in it."""
        return self.folder / job.id

    def close(self) -> None:
        """Stop taking runs and let those at work save and leave; they go on when the app starts again."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                if job.state == "running":
                    (self.folder / job.id / STOP).touch()
            self._changed.notify_all()
        if self.spare is not None:
            self.spare.close()
        for worker in self._workers:
            worker.join(30)

    # -- what happens by itself ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._next()) is not None:
            began = time.time()
            try:
                state, message = self._train(self.folder / job.id)
            except BaseException as error:  # whatever breaks one run, the next ones go on
                state, message = "failed", text("could_not_run", "it could not be run: {error}",
                                                error=type(error).__name__)  # fmt: skip
            with self._changed:
                if self._closed and state == "stopped":
                    self._note(replace(job, state="queued"))
                else:
                    self._note(replace(job, state=state, message=message, ended=time.time()))
            if state == "done" and (self.folder / job.id / "run" / "report.json").is_file():
                with suppress(Exception):  # a result without pictures is one nevertheless
                    self.executing(showing(), self.folder / job.id, SHOWING_SECONDS)
            if state == "done":
                with suppress(Exception):  # what is learned of a run for the next ones must not end the line
                    self.on_done(self.folder / job.id, began)

    def _next(self) -> Job | None:
        """Wait for the run whose turn it is, and note that it is at work; None once there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed)
            if self._closed:
                return None
            job = replace(self._jobs[self._line.pop(0)], state="running")
            self._note(job)
            return job

    def _train(self, home: Path) -> tuple[State, str]:
        """Run the process of a job until it ends or its time is up, and say how the job stands then."""
        seconds, begun = self.limits.wall_seconds, time.monotonic()
        code = self.executing(command(home), home, seconds)
        timed_out = code != 0 and time.monotonic() - begun >= seconds
        return self._outcome(home, code, too_long(seconds) if timed_out else "")

    def _outcome(self, home: Path, code: int, reason: str = "") -> tuple[State, str]:
        """How a job stands whose process has ended: done, stopped by its owner, or failed for a reason."""
        stopped = (home / STOP).exists()
        (home / STOP).unlink(missing_ok=True)
        if code == 0:
            return "done", ""
        return ("stopped", "") if stopped else ("failed", reason or complaint(home, code))

    def sweep(self) -> None:
        """Remove finished runs that are old, then the oldest until all fit on the disk."""
        with self._changed:
            over = sorted((job for job in self._jobs.values() if job.over), key=lambda job: job.ended)
        total = disk.size_of(self.folder)
        for job in over:
            old = time.time() - job.ended > self.limits.keep_hours * 3600
            if old or total > self.limits.disk_bytes:
                total -= disk.size_of(self.folder / job.id)
                with self._changed:
                    if self._jobs.get(job.id) == job:
                        self._remove(job)

    def _keep_sweeping(self) -> None:
        while not self._closed:
            with suppress(OSError):
                self.sweep()
                self.own.sweep()
            time.sleep(SWEEP_EVERY)

    def _recover(self) -> None:
        """The runs of an earlier server; those it left at work or in line go back into the line."""
        found = []
        for path in self.folder.glob("*/job.json"):
            with suppress(OSError, ValueError, TypeError):
                found.append(Job(**restored(json.loads(path.read_text(encoding="utf-8")))))
        for job in sorted(found, key=lambda job: (job.state != "running", job.created)):
            self._jobs[job.id] = job
            if not job.over:
                end_orphan(self.folder / job.id)
                (self.folder / job.id / STOP).unlink(missing_ok=True)
                self._enter(replace(job, state="queued"))

    def _make_room(self, owner: str) -> None:
        waiting = [job for job in self._jobs.values() if not job.over]
        if sum(job.owner == owner for job in waiting) >= self.limits.per_session:
            raise UserError(text("share_full", "you have {runs} runs at work or in line already: wait, or stop one",
                                 runs=self.limits.per_session))  # fmt: skip
        if len(self._line) >= self.limits.in_line:
            raise UserError(text("line_full", "the line is full: come back in a while, or duplicate this Space to have "
                                 "one of your own"))  # fmt: skip
        if disk.full(self.folder):
            raise UserError(disk.FULL)

    def _enter(self, job: Job) -> None:
        with self._changed:
            self._note(job)
            self._line.append(job.id)
            self._changed.notify()

    def _note(self, job: Job) -> None:
        self._jobs[job.id] = job
        with suppress(OSError):
            write_text(self.folder / job.id / "job.json", json.dumps(with_texts(asdict(job))))

    def _remove(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        for place in (self.folder / job.id, self.limits.folder / SERVED / job.place):
            shutil.rmtree(place, ignore_errors=True)


def too_long(seconds: int) -> Text:
    """Why a run ended whose time was up."""
    return text("too_long", "it took longer than the {seconds} s that a run has here", seconds=seconds)
