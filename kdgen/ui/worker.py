"""Models are asked in a process of its own, bounded in time and memory, so that the server's stays as it is."""

import os
import pickle
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

from kdgen.types import UserError, text
from kdgen.ui.limits import Limits
from kdgen.ui.process import environment

Named = tuple[str, str, float]
"""A model: as the visitor wrote it, as ``kdgen.load`` takes it, and when it was changed."""


class Worker:
    """One process, started before it is needed and kept; ended and begun anew where a call takes too long.

    Args:
        limits: seconds that a call may take, and bytes that the process may hold.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._free = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def call(self, name: str, *args: Any) -> Any:
        """What a function of ``kdgen.ui.answering`` gives.

        Args:
            name: of the function.
            args: its arguments, which can be pickled.

        Raises:
            UserError: what the function raised; and where it took too long or needed too much memory.
        """
        seconds = self.limits.request_seconds
        if not self._free.acquire(timeout=seconds):
            raise UserError(text("asking_busy", "many others are asking at the moment: try again in a while"))
        try:
            connection = self._running()
            connection.send_bytes(pickle.dumps((name, args)))
            if not connection.poll(seconds):
                self.end()
                raise UserError(text("request_too_long", "this took longer than the {seconds} s that it has here: take "
                                     "fewer or smaller models, fewer images or fewer steps, or try again when less "
                                     "is going on", seconds=seconds))  # fmt: skip
            answer = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            self.end()
            raise UserError(text("request_too_large", "this needed more memory than there is for it here, or broke "
                                 "off: take fewer or smaller models, or fewer images")) from None  # fmt: skip
        finally:
            self._free.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self) -> None:
        """Begin the process, so that the first who asks need not wait for it."""
        with self._free:
            self._running()

    def end(self) -> None:
        """End the process, whatever it does."""
        # who waits for an answer ends it too, at the same time
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if process is not None:
            process.kill()
            process.wait()
        if connection is not None:
            connection.close()

    def _running(self) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            self.end()
        if self._connection is None:
            ours, theirs = socketpair()
            env = environment(self.limits.folder / "cache")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kdgen.ui.answering", str(theirs.fileno())], env=env, stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
            theirs.close()
            self._connection = Connection(ours.detach())
            memory = self.limits.request_bytes
            with suppress(OSError, ValueError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + 1)
                resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (memory, memory))
        return self._connection


def resident(pid: int | None = None) -> int:
    """Bytes that a process holds in memory; 0 where that cannot be told."""
    try:
        pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()
