"""A run as a process of its own: it outlives the page and shares nothing with it but its folder."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kdgen.report.events import read_events
from kdgen.types import Text, text
from kdgen.types.text import replaced
from kdgen.ui.own import CACHE, FOLDER
from kdgen.ui.spare import Spare

PACKAGES = Path(__file__).parents[2]
GRACE = 15.0
"""Seconds that a run has to save and leave before it is killed; its last checkpoint stays."""

STOP = "stop"
"""A file that asks the process beside it to stop."""

EVENTS = "events.jsonl"
"""What a process prints of its run, in the home folder: the images that a model draws before there is a run folder."""
INTERRUPTED = (130, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a run that was asked to save and leave."""

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a run that did not within ``GRACE`` seconds, or that took all memory."""

SECRET = ("TOKEN", "SECRET", "PASSWORD", "OAUTH", "CREDENTIAL", "API_KEY")
"""Parts of the names of environment variables that no run is shown."""

Execute = Callable[[Sequence[str], Path, float], int]
"""Runs a command for a run's home folder and at most so many seconds; returns its exit code."""


def command(home: Path) -> list[str]:
    """The command that begins the run of a home folder, or goes on with it."""
    what = ["resume", "run"] if (home / "run" / "recipe.json").is_file() else ["distill", "recipe.json", "--out", "run"]
    return [sys.executable, "-m", "kdgen", *what, "--json"]


def showing() -> list[str]:
    """The command that makes the pictures of the run of a home folder."""
    return [sys.executable, "-c", "from kdgen.ui.showcase import main; main()", "run", "showcase"]


def environment(cache: Path) -> dict[str, str]:
    """This environment without anything secret, with the package in reach, and caches where they are counted."""
    kept = {key: value for key, value in os.environ.items() if not any(part in key.upper() for part in SECRET)}
    path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "KDGEN_CACHE": str(cache.resolve()), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def execute(
    arguments: Sequence[str],
    home: Path,
    seconds: float,
    *,
    env: Mapping[str, str] | None = None,
    memory: int = 0,
    spare: Spare | None = None,
) -> int:
    """Run a command in a home folder until it ends, the folder holds a file ``stop``, or time is up.

    What it prints goes to `events.jsonl`, its warnings and errors to `log.txt`, its process id to `pid`. It is asked to
    save and leave, and killed if it has not within ``GRACE`` seconds.

    Args:
        arguments: the command.
        home: where it works.
        seconds: time that it has.
        env: its environment.
        memory: bytes that it may hold; 0 sets no bound.
        spare: keeps a process ready for commands of kdgen.

    Returns:
        its exit code, negative after a signal.
    """
    if (home / FOLDER).is_dir():  # nothing that is made of what a visitor brought outlives the run
        env = {**(os.environ if env is None else env), "KDGEN_CACHE": str((home / FOLDER / CACHE).resolve())}
    process = _begun(arguments, home, env, spare)
    with suppress(OSError):  # a full disk: what was begun is watched nevertheless
        (home / "pid").write_text(str(process.pid), encoding="utf-8")
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + 2)
    if memory:
        with suppress(OSError, ValueError, AttributeError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
    until, terminated = time.monotonic() + seconds, 0.0
    while process.poll() is None:
        now = time.monotonic()
        if terminated and now > terminated + GRACE:
            process.kill()
        elif not terminated and (now > until or (home / STOP).exists()):
            process.terminate()
            terminated = now
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    (home / "pid").unlink(missing_ok=True)
    if spare is not None:
        spare.prepare()
    return process.returncode


def _begun(
    arguments: Sequence[str], home: Path, env: Mapping[str, str] | None, spare: Spare | None
) -> subprocess.Popen[bytes]:
    out, errors = home.resolve() / EVENTS, home.resolve() / "log.txt"
    out.unlink(missing_ok=True)
    if spare is not None and list(arguments[1:3]) == ["-m", "kdgen"]:
        cache = None if env is None else env.get("KDGEN_CACHE")
        process = spare.take(arguments[3:], home.resolve(), out, errors, cache)
        if process is not None:
            return process
    with errors.open("ab") as log, out.open("ab") as events:
        return subprocess.Popen(
            arguments, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=events, stderr=log, start_new_session=True
        )


def end_orphan(home: Path) -> None:
    """End a process that an earlier server left at work in a home folder, if it is still that run's."""
    try:
        pid = int((home / "pid").read_text(encoding="utf-8"))
        if (Path("/proc") / str(pid) / "cwd").resolve() == home.resolve():
            os.kill(pid, signal.SIGTERM)
            for _ in range(round(GRACE / 0.1)):
                os.kill(pid, 0)
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        pass
    (home / "pid").unlink(missing_ok=True)


def complaint(home: Path, code: int) -> Text:
    """Why a process failed, in a line: what it said last, without paths."""
    try:
        log = (home / "log.txt").read_text(encoding="utf-8", errors="replace")[-20_000:]
    except OSError:
        log = ""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    messages = [line.removeprefix("kdgen: ") for line in lines if line.startswith("kdgen: ")]
    within = f"{home.resolve()}/"
    if code in (2, 3) and messages:
        return _refusal(home, messages[-1]) or Text(messages[-1].replace(within, "")[:500])
    if code in KILLED:
        return text("killed", "the machine ended it: it needed more memory than there is, or took too long; make it "
                    "smaller")  # fmt: skip
    last = lines[-1] if lines else f"exit code {code}"
    if any(words in last for words in ("Errno 28", "Errno 122", "No space left", "Disk quota")):
        return text("disk_full", "the disk of this machine is full: delete some of your runs, then let it go on")
    if not (home / "run").is_dir() and "FileNotFoundError" in last:
        return text("folder_gone", "its folder is gone: it was deleted or swept away while it trained")
    if "MemoryError" in last or "not enough memory" in last or "can't allocate memory" in last:
        return text("out_of_memory", "it needed more memory than a run may have: take a smaller student, smaller "
                    "batches or patches")  # fmt: skip
    return text("broke_off", "it broke off: {last}", last=last.replace(within, "")[:300])


def _refusal(home: Path, message: str) -> Text | None:
    """What a process refused, as its last event has it, without paths; None where that is another message."""
    with suppress(OSError):
        refused = [event for event in read_events(home / EVENTS) if event["kind"] == "refused"]
        found = refused[-1]["data"].get("message") if refused else None
        if isinstance(found, Text) and found == message:
            return replaced(found, f"{home.resolve()}/", "")
    return None
