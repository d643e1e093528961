"""The app as a Space. Where accelerators are lent (ZeroGPU), a run holds one slice after slice while it is watched."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from kdgen.ui.app import serve
from kdgen.ui.limits import Limits
from kdgen.ui.process import GRACE, Execute, environment, execute

STARTING = 20
"""Seconds in which a process starts before it trains."""


def lent() -> Execute | None:
    """What runs a slice on a lent accelerator; None where there is none to lend and runs train as they are.

    The package `spaces` is installed on every Space; what it asks, and so this does, is ``SPACES_ZERO_GPU``.
    """
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return None
    import spaces

    cache = Limits.read().folder / "cache"

    def duration(arguments: list[str], home: str, seconds: float) -> int:
        return int(seconds + STARTING + GRACE)

    @spaces.GPU(duration=duration)
    def slice_(arguments: list[str], home: str, seconds: float) -> int:
        return execute(arguments, Path(home), seconds + STARTING, env=environment(cache))

    def executing(arguments: Sequence[str], home: Path, seconds: float) -> int:
        return int(slice_(list(arguments), str(home), seconds))

    return executing


def students() -> list[str]:
    """Students that the Space was deployed with, by their ids on the Hub."""
    named = Path(__file__).parent / "students.json"
    return list(json.loads(named.read_text(encoding="utf-8"))) if named.is_file() else []


if __name__ == "__main__":
    serve(lent(), students())
