"""How long until something happens: imports, help, the first step, a student loaded, the app ready.

    python benchmarks/startup.py --rounds 5 --out runs/benchmark-startup.json

Every figure is the time of a fresh process from its start, the median over rounds in which all are measured in turn.
``import kdgen`` and the rest that import torch are stated beside ``import torch`` alone, of the same rounds.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
APP = HERE / "app.py"
BASE = "import torch"
FIRST_STEP = """
import tempfile, kdgen
recipe = kdgen.preset("denoise").lasting(steps=1)
recipe = recipe.model_copy(update={"cache": recipe.cache.model_copy(update={"inputs": 0}), "controls": False})
for event in kdgen.distill(recipe, tempfile.mkdtemp() + "/run"):
    if event.kind == "phase":
        break
"""
LOAD = """
import torch, kdgen
kdgen.load("denoiser").restore(torch.zeros(1, 3, 64, 64), sigma=25)
"""
SCRIPTS = {
    BASE: BASE,
    "import torch, kdgen": "import torch, kdgen",
    "kdgen --help": "from kdgen.__main__ import main; main(['--help'])",
    "a student loaded and called": LOAD,
    "a recipe's first step": FIRST_STEP,
}


def seconds(script: str) -> float:
    """The time of a process that runs a script."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_to_page() -> float:
    """The time from starting the app to its first answered request."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        app = subprocess.Popen([sys.executable, str(APP)], cwd=folder, env={**os.environ, **home},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            while time.perf_counter() - started < 300:
                if app.poll() is not None:
                    raise SystemExit(f"{APP} ended with {app.returncode} before it answered")
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10):
                        return time.perf_counter() - started
                except OSError:
                    time.sleep(0.05)
            raise SystemExit(f"{APP} did not answer within 300 s")
        finally:
            app.terminate()
            app.wait(30)


def main() -> None:
    """Measure, print and keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    args = parser.parse_args()
    measures = {name: (lambda script=script: seconds(script)) for name, script in SCRIPTS.items()}
    if APP.is_file():
        measures["the app answers"] = seconds_to_page
    times: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(args.rounds + 1):
        for name, measure in measures.items():
            took = measure()
            if number:  # the first round warms the disk's cache
                times[name].append(took)
    middle = {name: statistics.median(values) for name, values in times.items()}
    added = statistics.median(b - a for a, b in zip(times[BASE], times["import torch, kdgen"], strict=True))
    print(
        f"| from the start of a process | s, median of {args.rounds} | spread | beside `{BASE}` |\n|---|---:|---:|---:|"
    )
    for name, values in times.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"| {name} | {middle[name]:.2f} | {spread} | {middle[name] / middle[BASE]:.2f} |")
    print(f"\n`import kdgen` adds {added:.3f} s to `{BASE}`, the median of the rounds' differences.")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        known = {"rounds": args.rounds, "seconds": times, "median": middle, "import_kdgen_adds": added}
        args.out.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
