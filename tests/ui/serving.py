"""What tests of the served app share."""

import json
import socket
import time

TINY = "controls=false\ncache.inputs=16\nevaluate_every=2\nstages.0.lr=0.001"
"""Settings of a run of the preset `denoise` that is over in moments."""


def ended(client, run: str, session: str, *, patience: float = 240) -> dict:
    """The last state of a run, once it is over."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        state = client.predict(run=run, session=session, api_name="/status")
        if state["state"] not in ("queued", "running"):
            return state
        time.sleep(0.5)
    raise AssertionError(f"not over after {patience} s: {json.dumps(state)}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
