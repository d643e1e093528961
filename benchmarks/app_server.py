"""The app as a process of its own, as those benchmarks ask it that come as its visitors."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class AppServer:
    """The app.

    Attributes:
        url: where it answers.
        pid: of its process.
        opened: seconds after which it answered.
        log: what it writes.
    """

    url: str
    pid: int
    opened: float
    log: Path


@contextmanager
def serving(port: int, place: Path) -> Iterator[AppServer]:
    """The app on a port, ended on leaving; what it keeps, and its log, lie in a folder of the caller's."""
    url, began, path = f"http://127.0.0.1:{port}", time.monotonic(), place / "log"
    env = {**os.environ, "KDGEN_APP_FOLDER": f"{place}/app", "GRADIO_SERVER_PORT": str(port),
           "GRADIO_ANALYTICS_ENABLED": "False"}  # fmt: skip
    with path.open("w") as log:
        process = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=env, stdout=log, stderr=log)
    try:
        while not _answers(url):
            time.sleep(0.1)
        yield AppServer(url, process.pid, time.monotonic() - began, path)
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/config", timeout=5).close()
    except OSError:
        return False
    return True
