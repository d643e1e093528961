"""Many visitors at once: none sees another's run, places in line go down, nothing breaks, memory stays flat.

    python benchmarks/visitors.py --clients 20 --seconds 120

Starts the app, lets every client begin a run and look at it every second or so as a page does, and try to look at and
stop somebody else's. Prints what was seen; exits with 1 if anything was not as it must be.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from app_server import AppServer, serving
from gradio_client import Client
from gradio_client.exceptions import AppError

ROOT = Path(__file__).parents[1]
SETTINGS = "controls=false\ncache.inputs=16\nevaluate_every=2"


class Visitor(threading.Thread):
    """One client, from its run's beginning to the end of the time."""

    def __init__(self, url: str, until: float, runs: dict[str, str]) -> None:
        super().__init__()
        self.url, self.until, self.runs = url, until, runs
        self.places: list[int] = []
        self.waits: list[float] = []
        self.state, self.leaks, self.problems = "", 0, list[str]()

    def run(self) -> None:
        """Begin, look, trespass, stop."""
        try:
            client = Client(self.url, verbose=False)
            begun = client.predict(preset="denoise", seconds=3, settings=SETTINGS, api_name="/distill")
            self.runs[begun["run"]] = begun["session"]
            while time.monotonic() < self.until:
                at = time.monotonic()
                seen = client.predict(run=begun["run"], session=begun["session"], api_name="/status")
                self.waits.append(time.monotonic() - at)
                assert seen["run"] == begun["run"]
                self.state = seen["state"]
                self.places.append(seen["place"])
                self._trespass(client, begun)
                time.sleep(1.0)
            client.predict(run=begun["run"], session=begun["session"], api_name="/stop")
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def _trespass(self, client: Client, begun: dict[str, str]) -> None:
        other = next((run for run in list(self.runs) if run != begun["run"]), None)
        if other is None:
            return
        try:
            client.predict(run=other, session=begun["session"], api_name="/stop")
            self.leaks += 1
        except AppError as error:
            if "no such run" not in str(error):
                self.problems.append(str(error))


def main() -> None:
    """Start the app, let the visitors in, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--port", type=int, default=7997)
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        with serving(options.port, Path(place)) as app:
            seen = _visited(app, options.clients, options.seconds)
        seen["tracebacks"] = app.log.read_text().count("Traceback")
    print(json.dumps(seen, indent=2))
    sys.exit(bool(seen["leaks"] or seen["problems"] or seen["rises"] or seen["tracebacks"]))


def _visited(app: AppServer, clients: int, seconds: float) -> dict[str, object]:
    process = psutil.Process(app.pid)
    runs: dict[str, str] = {}
    until = time.monotonic() + seconds
    visitors = [Visitor(app.url, until, runs) for _ in range(clients)]
    memory = [process.memory_info().rss]
    for visitor in visitors:
        visitor.start()
    while any(visitor.is_alive() for visitor in visitors):
        time.sleep(5)
        memory.append(process.memory_info().rss)
    time.sleep(5)
    waits = sorted(wait for visitor in visitors for wait in visitor.waits)
    return {
        "clients": clients, "seconds": seconds, "page_answers_after_seconds": round(app.opened, 1),
        "looks": len(waits), "median_wait_seconds": round(statistics.median(waits), 3),
        "p95_wait_seconds": round(waits[int(0.95 * len(waits))], 3),
        "leaks": sum(visitor.leaks for visitor in visitors),
        "problems": [problem for visitor in visitors for problem in visitor.problems][:5],
        "rises": sum(later > earlier for visitor in visitors
                     for earlier, later in zip(visitor.places, visitor.places[1:], strict=False)),
        "largest_place": max((place for visitor in visitors for place in visitor.places), default=0),
        "finished": sum(visitor.state == "done" for visitor in visitors),
        "memory_mb": [round(each / 1e6) for each in memory],
        "memory_mb_afterwards": round(process.memory_info().rss / 1e6),
    }  # fmt: skip


if __name__ == "__main__":
    main()
