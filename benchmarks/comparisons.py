"""Memory of the app over many comparisons: the server's own, and that of the process in which models are compared.

    python benchmarks/comparisons.py --comparisons 200

Starts the app, distils for a second and compares that student with its teacher through the API, each time on another
picture with other noise. Prints both sizes as it goes; exits with 1 where the server grew by more than ``GROWTH``
after the first tenth, in which it fills its caches.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from app_server import serving
from gradio_client import Client, handle_file
from PIL import Image

GROWTH = 50_000_000
"""Bytes by which the server may grow."""


def main() -> None:
    """Start the app, compare, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--port", type=int, default=7996)
    options = parser.parse_args()
    with TemporaryDirectory() as place, serving(options.port, Path(place)) as app:
        seen = _compared(app.url, app.pid, options.comparisons, Path(place))
    print(json.dumps(seen, indent=2))
    sys.exit(seen["server_mb"][-1] - seen["server_mb"][2] > GROWTH / 1e6)


def _compared(url: str, pid: int, count: int, place: Path) -> dict[str, list[int]]:
    server = psutil.Process(pid)
    client = Client(url, verbose=False)
    student = _student(client)
    seen: dict[str, list[int]] = {"server_mb": [_mb(server)], "worker_mb": [_workers(server)]}
    for number in range(count):
        Image.effect_noise((320 + 16 * (number % 20), 320), 40).save(place / "a.png")
        names, sigma = f"denoiser,run:{student['run']}", (15, 25, 50)[number % 3]
        client.predict(
            names, handle_file(place / "a.png"), sigma, number, 16, 1, student["session"], api_name="/compare"
        )
        if number % max(count // 20, 1) == 0:
            seen["server_mb"].append(_mb(server))
            seen["worker_mb"].append(_workers(server))
            print(f"{number}: server {seen['server_mb'][-1]} MB, worker {seen['worker_mb'][-1]} MB", flush=True)
    seen["server_mb"].append(_mb(server))
    seen["worker_mb"].append(_workers(server))
    return seen


def _student(client: Client) -> dict[str, str]:
    """A finished run of a second."""
    settings = "controls=false\ncache.inputs=16\nevaluate_every=2"
    begun: dict[str, str] = client.predict(preset="denoise", seconds=1, settings=settings, api_name="/distill")
    while client.predict(begun["run"], begun["session"], api_name="/status")["state"] != "done":
        time.sleep(1)
    return begun


def _mb(process: psutil.Process) -> int:
    return round(process.memory_info().rss / 1e6)


def _workers(server: psutil.Process) -> int:
    return sum(_mb(child) for child in server.children() if "kdgen.ui.answering" in child.cmdline())


if __name__ == "__main__":
    main()
