"""The Space on ZeroGPU without a GPU: the package `spaces` as it is, but for CUDA, and what schedules its slices.

``python zero.py PORT`` serves the app of `space/` so; what asks for slices is noted in `slices.jsonl`, a line each.
"""

import importlib.util
import json
import os
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SPACE = Path(__file__).parents[2] / "space" / "app.py"
QUOTA = "quota"
"""A file that makes the scheduler refuse, as it does once a visitor's quota is used up."""


class Scheduler(BaseHTTPRequestHandler):
    """The interface that `spaces` asks for slices: each is given at once, on device 0."""

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body, status = {}, 200
        if parts.path == "/schedule":
            with open("slices.jsonl", "a") as file:
                file.write(json.dumps({key: query.get(key) for key in ("token", "durationSeconds")}) + "\n")
            body = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "allow"}
            if Path(QUOTA).exists():
                status, body = 429, {"left": 3, "wait": 3600}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        pass


def without_cuda() -> None:
    """What `spaces` does with torch is what it does where there is no torch: nothing."""
    made = types.ModuleType("spaces.zero.torch")
    for name in ("enter_mode", "patch", "unpatch", "init", "move"):
        setattr(made, name, lambda *given, **more: None)
    made.pack = made.size = lambda *given, **more: 0
    made.is_in_bad_fork = lambda: False
    sys.modules["spaces.zero.torch"] = made


def space_app() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("space_app", SPACE)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


if __name__ == "__main__":
    without_cuda()
    scheduler = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=scheduler.serve_forever, daemon=True).start()
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{scheduler.server_port}"
    os.environ["SPACES_ZERO_GPU"] = "true"
    os.environ["GRADIO_SERVER_PORT"] = sys.argv[1]
    made = space_app()
    made.STARTING = 8
    made.serve(made.lent())
