"""The finished run that the app shows before a visitor's first: `python benchmarks/example_run.py`.

It distils the preset `denoise` and keeps of the run what the page shows, in `kdgen/ui/example`: the report, a thinned
log, pictures before and after.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from kdgen.report.events import read_events
from kdgen.ui import showcase
from kdgen.ui.disk import size_of

HERE = Path(__file__).parents[1] / "kdgen" / "ui" / "example"
SECONDS = 130
MOST_BYTES = 300_000
STEPS = 40
"""How many steps of each phase stay in the log."""

PICTURES = ("chelsea.png", "coffee.png")
QUALITY = 76


def main() -> None:
    """Train, unless a finished run is named, and keep what is shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/example"), help="its folder, used where it is finished")
    run: Path = parser.parse_args().run
    if not (run / "report.json").is_file():
        arguments = ["distill", "denoise", "--out", str(run), "--set", f"seconds={SECONDS}"]
        subprocess.run([sys.executable, "-m", "kdgen", *arguments, "--set", "evaluate_every=6"], check=True)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    for name in ("recipe.json", "report.json"):
        shutil.copy(run / name, HERE / name)
    events = thinned(read_events(run / "metrics.jsonl"))
    (HERE / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    showcase.make(run, HERE / showcase.FOLDER, quality=QUALITY, photographs=PICTURES)
    for name in showcase.LEARNED:
        (HERE / showcase.FOLDER / name).unlink(missing_ok=True)
    assert size_of(HERE) < MOST_BYTES, f"{size_of(HERE):,} bytes"
    print(f"{HERE}: {size_of(HERE):,} bytes")


def thinned(events: list[dict[str, object]]) -> list[dict[str, object]]:
    """Every evaluation, and few steps of each phase; no state of the run."""
    kept: list[dict[str, object]] = []
    for phase in dict.fromkeys(event["phase"] for event in events):
        steps = [event for event in events if event["kind"] == "step" and event["phase"] == phase]
        kept += steps[:: max(len(steps) // STEPS, 1)]
    chosen = {id(event) for event in kept}
    found = [event for event in events if event["kind"] in ("evaluate", "start", "done") or id(event) in chosen]
    for event in found:
        data = event["data"]
        if event["kind"] == "start" and isinstance(data, dict):
            event["data"] = {key: value for key, value in data.items() if key not in ("state", "folder")}
        if event["kind"] == "done":
            event["data"] = {}
    return found


if __name__ == "__main__":
    main()
