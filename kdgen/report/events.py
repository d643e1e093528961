"""The events of a run, as its log tells them."""

import json
from pathlib import Path
from typing import Any

from kdgen.types.text import restored


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
                events.append(restored(event))
    return events
