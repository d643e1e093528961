"""What a run notes down as it goes: its lock, its log of events, its timings; and how it is asked to stop."""

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdgen.types import Event, UserError
from kdgen.utils.convert import write_text


class Journal:
    """The notes in a run folder: `metrics.jsonl`, a line an event, and `timing.json`, seconds and steps by phase.

    Args:
        folder: of the run.
        writes: whether this process keeps the notes; another one of the same run only reads them.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.timing = folder / "timing.json"

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
            raise UserError(
                f"another process is at work in {self.folder}: wait for it, or choose another --out"
            ) from None
        try:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as self._file:
                yield
        finally:
            lock.release()

    def log(self, event: Event) -> None:
        """Append an event."""
        if not self.writes:
            return
        self._file.write(json.dumps(asdict(event)) + "\n")
        self._file.flush()

    def get(self, key: str, default: Any = None) -> Any:
        """A figure noted before."""
        return self._known().get(key, default)

    def note(self, **figures: Any) -> None:
        """Note figures, whole or not at all."""
        if self.writes:
            write_text(self.timing, json.dumps({**self._known(), **figures}, indent=2) + "\n")

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self.timing.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if isinstance(known, dict):
            return known
        log = self.folder / "metrics.jsonl"
        return _noted(read_events(log)) if log.is_file() else {}


def read_events(log: Path) -> list[dict[str, Any]]:
    """The events of a run from its `metrics.jsonl`; a line that is none, cut short say, is skipped."""
    events = []
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and {"kind", "phase", "data"} <= event.keys():
                events.append(event)
    return events


def _noted(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures that events tell of, for timings that were lost."""
    figures: dict[str, Any] = {}
    for event in events:
        phase, data = event["phase"], event["data"]
        if event["kind"] == "start":
            figures |= data["settled"]
        elif event["kind"] == "answers":
            figures |= {f"{phase}_answers": data["seconds"], f"{phase}_answers_from_disk": data["from_disk"]}
            figures |= {f"{phase}_equivariance": data["equivariance"]} if "equivariance" in data else {}
        elif event["kind"] == "warning" and "inputs" in data:
            figures |= {f"{phase}_inputs": data["inputs"], f"{phase}_short": data["message"]}
        elif event["kind"] == "phase":
            figures |= {f"{phase}_steps": data["steps"], f"{phase}_seconds": data["seconds"]}
            figures |= {f"{phase}_choice": data["choice"]} if "choice" in data else {}
    return figures


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT, SIGTERM and SIGHUP ask to save and leave; a second one ends at once, but for SIGHUP, which comes twice.

    A SIGHUP that is ignored, as under ``nohup``, stays so.

    Yields:
        whether one came. Outside the main thread none is caught.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    hangup = getattr(signal, "SIGHUP", None)  # Windows has none

    def ask(number: int, frame: object) -> None:
        if asked.is_set() and number != hangup:
            raise KeyboardInterrupt
        asked.set()

    wanted = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        wanted.append(hangup)
    before = {number: signal.signal(number, ask) for number in wanted}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
