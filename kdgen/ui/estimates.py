"""How long a run will take here, before it; and what student and teacher cost, counted once."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from kdgen.recipe import Recipe, read
from kdgen.report.events import read_events
from kdgen.training import timing
from kdgen.types import UserError
from kdgen.ui.own import brought
from kdgen.ui.preparing import Preparing
from kdgen.utils.convert import write_text

SPANS = "spans.json"
"""What each phase of a run is expected to take, in its home folder."""

KEPT = 64

GUESS = timing.Rates(start=3, answer=0.01, step=0.05, look=2, teacher=10, student=5, closing=5)
"""Rates where nothing is measured."""


class Estimates:
    """Times of runs to come.

    Args:
        cache: folder of caches, as runs have it.
        preparing: measures what is not known yet.
    """

    def __init__(self, cache: Path, preparing: Preparing) -> None:
        self.cache, self.preparing = cache, preparing
        self._similar: OrderedDict[tuple[str, str], timing.Rates] = OrderedDict()
        self._lock = threading.Lock()

    def spans(self, recipe: Recipe) -> Mapping[str, float] | None:
        """Seconds of each phase of a run; None while its nets are still to be measured, or no like them were."""
        kind = (recipe.task.name, str(recipe.teacher))
        rates, text = timing.known(recipe, self.cache), recipe.to_json()
        own = '"own:' in text or bool(brought(text))  # is the visitor's alone, and not measured ahead
        if rates is None and not own:
            self.preparing.want(recipe, first=True)
        with self._lock:
            if rates is not None:
                self._similar[kind] = rates
                self._similar.move_to_end(kind)
                while len(self._similar) > KEPT:
                    self._similar.popitem(last=False)
            rates = rates or self._similar.get(kind)
        if rates is None and (own or not self.preparing.enabled or timing.key_of(recipe) in self.preparing.failed):
            rates = GUESS
        return None if rates is None else timing.spans(recipe, rates)

    def note(self, recipe: Recipe, home: Path) -> None:
        """Keep beside a run what it is expected to take."""
        expected = self.spans(recipe)
        if expected is not None:
            with suppress(OSError):
                write_text(home / SPANS, json.dumps(dict(expected)))

    def learn(self, home: Path, began: float) -> None:
        """Correct what is known by a run that ended; it began so many seconds after the epoch."""
        try:
            recipe = read(home / "recipe.json")
            events = read_events(home / "run" / "metrics.jsonl")
        except (OSError, UserError):
            return
        rates = timing.known(recipe, self.cache)
        if rates is not None and events and events[-1]["kind"] == "done":
            timing.keep(recipe, timing.learned(recipe, events, rates, began), self.cache)


def expected(home: Path) -> Mapping[str, float]:
    """What ``Estimates.note`` kept; empty where nothing was."""
    try:
        found = json.loads((home / SPANS).read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
