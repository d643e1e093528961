"""What a run notes down as it goes: its lock, its log of events, its state; and how it is asked to stop."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdgen.report.events import read_events
from kdgen.training.run_state import PhaseState, RunState, state_from_events
from kdgen.types import Event, UserError, text
from kdgen.types.text import with_texts
from kdgen.utils.convert import write_text


class Journal:
    """The notes in a run folder: `metrics.jsonl`, a line an event, and `state.json`.

    Args:
        folder: of the run.
        writes: whether this process keeps the notes; another one of the same run only reads them.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.path, self.events = folder / "state.json", folder / "metrics.jsonl"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder for this process alone.

        Raises:
            UserError: if another process is at work in it.
        """
        if not self.writes:
            yield
            return
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(text("run_taken", "another process is at work in {folder}: wait for it, or choose "
                                 "another --out", folder=self.folder)) from None  # fmt: skip
        try:
            with self.events.open("a", encoding="utf-8") as self._file:
                yield
        finally:
            lock.release()

    def log(self, event: Event) -> None:
        """Append an event, with the time of day in seconds since the epoch."""
        if not self.writes:
            return
        self._file.write(json.dumps(with_texts({**asdict(event), "time": time.time()})) + "\n")
        self._file.flush()

    @property
    def state(self) -> RunState:
        """What was noted last; what events tell of where that is damaged."""
        try:
            return RunState.model_validate_json(self.path.read_bytes())
        except (OSError, ValueError):
            return state_from_events(read_events(self.events)) if self.events.is_file() else RunState()

    def phase(self, name: str) -> PhaseState:
        """What was noted of a phase."""
        return self.state.phase(name)

    def note(self, phase: str | None = None, **changes: Any) -> None:
        """Note values of the run or of a phase of it, whole or not at all."""
        if not self.writes:
            return
        state = self.state
        state = state.model_copy(update=changes) if phase is None else state.with_phase(phase, **changes)
        write_text(self.path, state.model_dump_json(indent=2) + "\n")


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT, SIGTERM and SIGHUP ask to save and leave; a second one ends at once, but for SIGHUP, which comes twice.

    A SIGHUP that is ignored, as under ``nohup``, stays so.

    Yields:
        whether one came. Outside the main thread none is caught.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    hangup = getattr(signal, "SIGHUP", None)  # Windows has none

    def ask(number: int, frame: object) -> None:
        if requested.is_set() and number != hangup:
            raise KeyboardInterrupt
        requested.set()

    signals = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
