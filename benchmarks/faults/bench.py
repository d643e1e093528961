"""Runs in children, forked from one process that is warm, and what each should leave behind."""

import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401 - what runs import late, so that children need not
from faults import tiny

from kdgen.__main__ import main
from kdgen.models.model import load
from kdgen.types import UserError

LONGEST = 300
"""Seconds after which a run counts as hanging."""

CODES = {0: "done", 2: "refused", 3: "disk full", 130: "stopped", -signal.SIGKILL: "killed", 70: "traceback"}


def start(work: Callable[[], object], log: Path) -> int:
    """Begin something in a child, whose number is given. What it says goes to a file."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def ending(child: int, *, kill_after: float | None = None, longest: float = LONGEST) -> str:
    """How a child ends, perhaps killed after so many seconds."""
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return CODES.get(code, f"code {code}")
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        if time.monotonic() - started > longest:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang"
        time.sleep(0.002)


def forked(work: Callable[[], object], log: Path, *, kill_after: float | None = None) -> str:
    """Do something in a child; how it ended."""
    return ending(start(work, log), kill_after=kill_after)


class Bench:
    """A folder to work in, the tiny recipe, and the student that it makes when nothing goes wrong."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.data = tiny.make(folder / "tiny", controls=False, **changes)
        self.log = folder / "log.txt"
        started = time.monotonic()
        assert self.distill(folder / "whole") == "done", self.log.read_text()
        self.seconds = time.monotonic() - started
        self.student = self.made(folder / "whole")

    def recipe(self, **changes: Any) -> Path:
        """The recipe as a file."""
        file = self.folder / "recipe.json"
        file.write_text(json.dumps({**self.data, **changes}))
        return file

    def distill(self, run: Path, *, kill_after: float | None = None, before: Callable[[], object] = lambda: None,
                **changes: Any) -> str:  # fmt: skip
        """Begin a run in a child, after ``before`` there."""
        words = ["distill", str(self.recipe(**changes)), "--out", str(run), "--quiet"]
        return forked(lambda: (before(), main(words)), self.log, kill_after=kill_after)

    def resume(self, run: Path, *, kill_after: float | None = None) -> str:
        """Go on with a run in a child; begin it if it never got as far as a recipe."""
        if not (run / "recipe.json").is_file():
            shutil.rmtree(run, ignore_errors=True)
            return self.distill(run, kill_after=kill_after)
        return forked(lambda: main(["resume", str(run), "--quiet"]), self.log, kill_after=kill_after)

    def made(self, run: Path) -> bytes | None:
        """The student of a run, None where it says that there is none."""
        try:
            load(run)
        except UserError:
            return None
        return (run / "student" / "model.safetensors").read_bytes()

    def verdict(self, run: Path, end: str) -> str:
        """How a run ended, and ``wrong`` if what stands there is not the student that should."""
        made = self.made(run)
        if end == "done":
            return "same student" if made == self.student else "wrong"
        return end if made in (None, self.student) else "wrong"
