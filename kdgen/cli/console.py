"""What the command line shows while a run goes on, and the tables it ends with."""

import errno
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column, Table

from kdgen.cli.quality import Quality
from kdgen.utils.durations import clock

if TYPE_CHECKING:
    from kdgen.report.report import Report
    from kdgen.types import Event

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False, width=None if sys.stdout and sys.stdout.isatty() else 140)

PHASES = {"student": "student", "control_steps": "control, steps", "control_seconds": "control, seconds"}
DRAWN = "images of a model"
DRAWN_EVERY = 0.5
"""Seconds between events that count these."""

WIDE = 110
"""Columns from which a line has room for every term of the loss."""
PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

_NOT_TERMS = frozenset({"alpha", "lr", "images_per_second", "seconds", "seconds_left"})


class Display(Protocol):
    """Shows events as they come; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def show(self, event: "Event") -> None:
        """Show one event."""
        ...

    def drawn(self, done: int, total: int) -> None:
        """Show how many images a model has drawn to train on, before anything happens."""
        ...


class Quiet:
    """Shows warnings only, on stderr."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def show(self, event: "Event") -> None:
        """Print a warning; pass over everything else."""
        if event.kind == "warning":
            stderr.print(f"kdgen: {event.data['message']}", markup=False)

    def drawn(self, done: int, total: int) -> None:
        """Pass over it."""


class Lines(Quiet):
    """One JSON object per event on stdout."""

    def __init__(self) -> None:
        self.last, self.progress = float("-inf"), 0.0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Print a mistake to mend as the last event."""
        from kdgen.types import Event, UserError

        if isinstance(error, UserError):
            self.show(Event(kind="refused", progress=self.progress, data={"message": error.text}))

    def show(self, event: "Event") -> None:
        """Print the event."""
        from kdgen.types.text import with_texts

        self.progress = event.progress
        print(json.dumps(with_texts(asdict(event))), flush=True)

    def drawn(self, done: int, total: int) -> None:
        """Print how many, a few times a second."""
        from kdgen.types import Event

        if done == total or time.monotonic() - self.last > DRAWN_EVERY:
            self.last = time.monotonic()
            self.show(Event(kind="images", progress=done / total, data={"done": done, "total": total}))


class Plain(Quiet):
    """A line every few seconds on stderr, for logs."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.quality = Quality()

    def show(self, event: "Event") -> None:
        """Print the event if it opens or ends something, or if the last line is old enough."""
        super().show(event)
        self.quality.take(event)
        if event.kind in ("step", "answers"):
            self._line(_what(event), _share(event), figures(event, self.quality.of(event.phase)))
        elif line := event_line(event):
            stderr.print(line, markup=False)

    def drawn(self, done: int, total: int) -> None:
        """Print how many, now and then."""
        self._line(DRAWN, done / total, f"{done:,} of {total:,}")

    def _line(self, what: str, share: float, text: str) -> None:
        now = time.monotonic()
        if now - self.last.get(what, float("-inf")) >= PLAIN_EVERY or share >= 1:
            self.last[what] = now
            stderr.print(f"{what}: {share:.0%}, {text}", markup=False)


class Live(Quiet):
    """Progress bars on the terminal, one for the teacher's answers and one for each net."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=17)),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=stderr,
        )
        self.bars: dict[str, Any] = {}
        self.quality = Quality()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def show(self, event: "Event") -> None:
        """Move the bar that the event belongs to."""
        super().show(event)
        self.quality.take(event)
        if event.kind in ("step", "answers"):
            text = figures(event, self.quality.of(event.phase), terms=stderr.width >= WIDE)
            self._move(_what(event), _share(event), text)
        elif event.kind == "phase" and PHASES.get(event.phase, event.phase) in self.bars:
            self.progress.update(
                self.bars[PHASES.get(event.phase, event.phase)], completed=1.0, figures=event_line(event)
            )
        elif line := event_line(event):
            self.progress.console.print(line, markup=False)

    def drawn(self, done: int, total: int) -> None:
        """Move a bar of its own."""
        self._move(DRAWN, done / total, f"{done:,} of {total:,}")

    def _move(self, what: str, share: float, text: str) -> None:
        if what not in self.bars:
            self.bars[what] = self.progress.add_task(what, total=1.0, figures="")
        self.progress.update(self.bars[what], completed=share, figures=text)


def make_display(*, quiet: bool, as_json: bool) -> Display:
    """The display for this terminal and these options."""
    if as_json:
        return Lines()
    if quiet:
        return Quiet()
    return Live() if stderr.is_terminal else Plain()


def event_line(event: "Event") -> str:
    """A line for an event that opens or ends something; empty for others."""
    data = event.data
    if event.kind == "start" and "student" in data:
        teacher = f"{data['teacher']} teaches " if data.get("teacher") else "no teacher, training "
        opening = f"{teacher}{data['student']} in {data.get('folder', '.')}"
        lives = [f"the loss of {name} normally lies between {low:g} and {high:g} and says little: watch "
                 f"{data.get('primary_metric', 'the quick evaluations')}"
                 for name, (low, high) in data.get("loss_lives", {}).items()]  # fmt: skip
        return "\n".join([opening, *lives])
    if event.kind == "phase":
        return f"{PHASES.get(event.phase, event.phase)}: {data['steps']:,} steps in {clock(data['seconds'])}"
    if event.kind == "stopped":
        return f"stopped: {data['reason']}; everything is saved, go on with: {data['resume']}"
    return ""


def figures(event: "Event", quality: str, *, terms: bool = True) -> str:
    """The figures of a ``step`` or ``answers`` event in a line, with the terms of the loss or the loss alone."""
    data = event.data
    if event.kind == "answers":
        source = "from disk" if data["from_disk"] else f"in {clock(data['seconds'])}"
        return f"{data['done']:,} of {data['total']:,} {source}"
    parts = [f"{clock(data['seconds_left'])} left"] if data.get("seconds_left") is not None else []
    parts += [quality] if quality else []
    parts += [f"{data['images_per_second']:,.0f} images/s"] if "images_per_second" in data else []
    shown = [key for key in data if key not in _NOT_TERMS and isinstance(data[key], float)] if terms else ["loss"]
    return " · ".join([*parts, *(f"{key} {data[key]:.3g}" for key in shown if key in data)])


def report_table(report: "Report") -> Table:
    """A report for the terminal: one column for each net."""
    header, cells = report.table()
    table = Table(title=report.task, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("")
    for line in cells:
        table.add_column(line[0], justify="right")
    for at, title in enumerate(header[1:], start=1):
        table.add_row(title, *(line[at] for line in cells))
    return table


def print_report(report: "Report") -> None:
    """Print a report's table and sentences on stdout."""
    stdout.print(report_table(report))
    for sentence in report.sentences():
        stdout.print(f"\n{sentence}", markup=False)


def _what(event: "Event") -> str:
    return "teacher's answers" if event.kind == "answers" else PHASES.get(event.phase, event.phase)


def _share(event: "Event") -> float:
    return event.data["done"] / max(event.data["total"], 1) if event.kind == "answers" else event.progress


@contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """While open, how many answers a net has given is shown on stderr: moving on a terminal, else now and then."""
    last = time.monotonic()

    def plain(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY:
            last = time.monotonic()
            stderr.print(f"{what}: {count:,} answers", markup=False)

    if not stderr.is_terminal:
        yield plain
        return
    with stderr.status(what) as status:
        yield lambda count: status.update(f"{what}: {count:,} answers")


def explain(error: Exception) -> tuple[int | None, str]:
    """The exit code and the line for an error, or None for one that is a defect of the program."""
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
        return (
            3,
            "the disk is full: free space and run the same again, a run by `kdgen resume DIR`; nothing saved is lost",
        )
    places = FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError | FileExistsError
    if isinstance(error, places) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return 2, f"{error.filename or 'file'}: {(error.strerror or str(error)).lower()}"
    from kdgen.types import UserError

    code = getattr(error, "exit_code", 2)
    return (code, " ".join(str(error).split())) if isinstance(error, UserError) else (None, "")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of this package's making are one line without a place in the code."""
    before = warnings.formatwarning

    def form(message: Any, category: Any, *place: Any, **more: Any) -> str:
        return f"kdgen: {message}\n" if category is UserWarning else before(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Image size", module="PIL")  # a restored picture may be large
        warnings.formatwarning = form
        try:
            yield
        finally:
            warnings.formatwarning = before
