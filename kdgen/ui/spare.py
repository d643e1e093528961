"""A process that has imported what a run needs, before there is one: it waits for a command, runs it and is gone."""

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

NICENESS = 2
"""How far a run stands back behind the page."""


class Spare:
    """Keeps one process ready.

    Args:
        env: its environment.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Have a process get ready, if none is."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(os.getpid())], env=self.env, stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def take(
        self, arguments: Sequence[str], home: Path, out: Path, errors: Path, cache: str | None = None
    ) -> subprocess.Popen[bytes] | None:
        """The process at a command from now on; None where there is none.

        Args:
            arguments: of ``python -m kdgen``.
            home: the folder in which it works.
            out: the file to which what it prints is appended.
            errors: the same for its warnings and errors.
            cache: the folder of its caches; by default that of its environment.
        """
        with self._lock:
            process, self._process = self._process, None
        if process is None or process.stdin is None:
            return None
        given = {"arguments": list(arguments), "home": str(home), "out": str(out), "errors": str(errors),
                 "cache": cache}  # fmt: skip
        try:
            process.stdin.write(json.dumps(given).encode() + b"\n")
            process.stdin.close()
        except OSError:
            process.kill()
            process.wait()
            return None
        return process

    def close(self) -> None:
        """End the process that waits."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def get_ready() -> None:
    """Import what runs import, torch and its compiler among it, and compute a little."""
    import rich.progress  # noqa: F401
    import torch
    import torch._dynamo
    import typer  # noqa: F401

    import kdgen.training.run  # noqa: F401

    net = torch.nn.Conv2d(1, 4, 3)
    net(torch.zeros(1, 1, 8, 8)).sum().backward()


def wait(server: int) -> None:
    """Get ready, read a command and run it, unless the server that gave it is gone: the next one gives it anew.

    Args:
        server: id of its process.
    """
    with suppress(OSError):
        os.nice(NICENESS)
    get_ready()
    line = sys.stdin.readline()
    if not line or os.getppid() != server:
        return
    given = json.loads(line)
    os.chdir(given["home"])
    for name, descriptor in (("out", 1), ("errors", 2)):
        file = os.open(given[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    if given["cache"]:
        os.environ["KDGEN_CACHE"] = given["cache"]
    sys.argv = ["kdgen", *given["arguments"]]
    runpy.run_module("kdgen", run_name="__main__")


if __name__ == "__main__":
    wait(int(sys.argv[1]))
