"""The app as it is served, but for long runs: one of a minute or more is at work until it is stopped, and trains nothing.

Tests begin such a run to see that it begins, stands in line and is stopped, with all of the machine left for the page.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdgen.ui import app, runs
from kdgen.ui.process import STOP, execute

LONG = 60


def standing(arguments: Sequence[str], home: Path, seconds: float, **more: Any) -> int:
    """Run a command as the app does, or stand still in its place."""
    if (json.loads((home / "recipe.json").read_text())["seconds"] or 0) < LONG:
        return execute(arguments, home, seconds, **more)
    while not (home / STOP).exists():
        time.sleep(0.05)
    return 130


if __name__ == "__main__":
    runs.execute = standing  # type: ignore[attr-defined]
    app.serve()
