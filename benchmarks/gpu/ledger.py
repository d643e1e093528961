"""What is tried, how it ended, and where that is written down as it ends."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "off", "failed", "absent", "skipped"]
BAD = ("off", "failed")
"""What makes the exit code 1: beyond a tolerance, or an error."""


class Absent(Exception):
    """What was to be tried is not on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How something ended that did end.

    Attributes:
        figures: by name, with their units in it.
        apart: how far two results that should agree were, each beside the most that it may be.
        note: a sentence, empty where the figures say all.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    apart: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def fits(self) -> bool:
        """Whether all is within tolerance; what is not a number is not."""
        return all(value <= most for value, most in self.apart.values())


@dataclass(frozen=True, slots=True)
class Item:
    """Something to try.

    Attributes:
        name: in the table.
        run: does it.
        needs: seconds that must be left for it to begin.
    """

    name: str
    run: Callable[[], Outcome]
    needs: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the parts share.

    Attributes:
        device: where to compute, ``cuda`` or ``cpu``.
        quick: everything as small as it can be.
        scratch: a folder for runs, thrown away afterwards.
        deadline: of the part, in seconds of ``time.monotonic``.
        seconds: of training for each preset.
    """

    device: str
    quick: bool
    scratch: Path
    deadline: float
    seconds: float

    @property
    def left(self) -> float:
        """Seconds that the part has left."""
        return self.deadline - time.monotonic()


Part = Callable[[Setup], Iterator[Item]]


class Ledger:
    """The results of all parts in `gpu.json`, whole after every row, so that a killed run leaves what it had."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "gpu.json"

    def read(self) -> dict[str, Any]:
        """All that is known."""
        known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"machine": {}, "rows": []}
        return known

    def begin(self) -> None:
        """Forget what an earlier run left in the folder."""
        self.path.unlink(missing_ok=True)

    def machine(self, **facts: Any) -> None:
        """Note where this ran."""
        known = self.read()
        self._write({**known, "machine": {**known["machine"], **facts}})

    def add(self, part: str, name: str, status: Status, outcome: Outcome, seconds: float = 0.0) -> None:
        """One row."""
        row = {"part": part, "name": name, "status": status, **asdict(outcome), "seconds": round(seconds, 3)}
        known = self.read()
        self._write({**known, "rows": [*known["rows"], _plain(row)]})
        print(f"{part}: {name}: {status} {_shown(row)}".rstrip(), flush=True)

    def table(self) -> str:
        """All rows, the machine above them."""
        known = self.read()
        where = "; ".join(f"{key} {value}" for key, value in known["machine"].items())
        lines = [where, "", "| part | what | ended | figures | s |", "|---|---|---|---|---:|"]
        for row in known["rows"]:
            cells = [row["part"], row["name"], row["status"], _shown(row), f"{row['seconds']:.1f}"]
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        return "\n".join(lines)

    @property
    def bad(self) -> bool:
        """Whether anything was off or failed."""
        return any(row["status"] in BAD for row in self.read()["rows"])

    def _write(self, known: Mapping[str, Any]) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=1) + "\n")
        os.replace(partial, self.path)


def carry_out(name: str, part: Part, setup: Setup, ledger: Ledger) -> None:
    """Try all items of a part: an error is a row, and what there is no time for is one."""
    for item in part(setup):
        if setup.left < item.needs:
            ledger.add(name, item.name, "skipped", Outcome(note=f"{max(setup.left, 0):.0f} s were left"))
            continue
        began = time.perf_counter()
        try:
            outcome = item.run()
        except Absent as reason:
            ledger.add(name, item.name, "absent", Outcome(note=str(reason)))
        except Exception as error:  # whatever a method raises is what is to be known
            ledger.add(name, item.name, "failed", Outcome(note=said(error)), time.perf_counter() - began)
        else:
            seconds = time.perf_counter() - began
            ledger.add(name, item.name, "ok" if outcome.fits else "off", outcome, seconds)


def said(error: BaseException) -> str:
    """An error in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])[:240]


def _shown(row: Mapping[str, Any]) -> str:
    """Figures, what was apart, and the note, in a line."""
    apart = [f"{key} off by {_number(value)} of {_number(most)}" for key, (value, most) in row["apart"].items()]
    figures = [f"{key} {_number(value)}" for key, value in row["figures"].items()]
    return "; ".join(filter(None, [*apart, *figures, row["note"]]))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """The same as JSON has it: NaN and infinity as words."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
