"""What is made ahead while no run is at work: rates of this machine, images that models draw, teachers' answers."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from kdgen.recipe import Recipe, parse
from kdgen.training import timing

NICENESS = 10
MOST = 24
"""Recipes that may wait."""

GRACE = 2.0
"""Seconds that a process has to leave when it is to make way."""

LOOK_EVERY = 0.3
"""Seconds between looks at whether a run wants the machine."""


class Preparing:
    """One process at a time, at low priority, which makes way for any run and begins again where it was.

    Args:
        env: environment of its processes, as runs have it.
        busy: says whether a run is at work or in line.
        enabled: whether anything is made ahead at all.

    Attributes:
        failed: keys of recipes that could not be prepared.
    """

    def __init__(self, env: Mapping[str, str], busy: Callable[[], bool], *, enabled: bool = True) -> None:
        self.env, self.busy, self.enabled = env, busy, enabled
        self._changed = threading.Condition()
        self._waiting: dict[str, Recipe] = {}
        self._seen: set[str] = set()
        self.failed: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def want(self, *recipes: Recipe, first: bool = False) -> None:
        """Prepare recipes, each once; before all others where somebody waits for it."""
        named = {timing.key_of(recipe): recipe for recipe in recipes}
        with self._changed:
            fresh = {key: recipe for key, recipe in named.items() if key not in self._seen}
            if first:
                fresh |= {key: recipe for key, recipe in named.items() if key in self._waiting}
            if not (self.enabled and fresh):
                return
            self._seen |= fresh.keys()
            both = fresh | self._waiting if first else self._waiting | fresh
            self._waiting = dict(list(both.items())[:MOST])
            self._changed.notify()

    def close(self) -> None:
        """Leave off."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
            if self.busy():
                time.sleep(LOOK_EVERY)
                continue
            with self._changed:
                key = next(iter(self._waiting))
                recipe = self._waiting.pop(key)
            if not self._made(key, recipe):
                with self._changed:
                    self._waiting = {key: recipe, **self._waiting}

    def _made(self, key: str, recipe: Recipe) -> bool:
        """Whether it was prepared, or can't be; not if it had to make way."""
        process = subprocess.Popen(
            [sys.executable, "-P", __file__], env=self.env, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(recipe.to_json().encode())
            process.stdin.close()
        while process.poll() is None:
            if self._closed or self.busy():
                process.terminate()
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                return self._closed
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY)
        if process.returncode:
            self.failed.add(key)
        return True


def prepares(executing: Callable[..., int] | None) -> bool:
    """Whether things are made ahead here: on a machine of its own, unless ``KDGEN_APP_PREPARE`` is 0."""
    return executing is None and os.environ.get("KDGEN_APP_PREPARE", "").strip() != "0"


def prepare(recipe: Recipe) -> None:
    """Measure the rates of a recipe where they are not known, draw its images and ask its teacher."""
    import torch._dynamo  # noqa: F401  # a run finds it imported, and what is measured is to leave it out

    with TemporaryDirectory() as folder:
        rates = timing.known(recipe)
        if rates is None:
            rates = timing.measure(recipe, Path(folder) / "trial")
            timing.keep(recipe, rates)
        if recipe.teacher is None or not recipe.cache.inputs:
            return
        for filled in timing.fill(recipe, Path(folder)):
            rates = timing.known(recipe) or rates  # a run may have corrected them since
            timing.keep(recipe, rates.model_copy(update={"filled": filled}))


def leave_with(parent: int) -> None:
    """End this process once another one is gone that began it."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)


if __name__ == "__main__":
    os.nice(NICENESS)
    threading.Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()
    prepare(parse(sys.stdin.read()))
