"""The process that models are asked in: bounded in time and memory, begun anew, gone with its server."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from kdgen.types import UserError
from kdgen.ui import comparing
from kdgen.ui.comparing import Options
from kdgen.ui.limits import Limits
from kdgen.ui.worker import Worker

PAIR = (("denoiser", "denoiser", 0.0),)
OPTIONS = Options(sigma=25, seed=0, num_images=4, num_steps=1)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    made = Worker(Limits(folder=tmp_path_factory.mktemp("app")))
    yield made
    made.end()


def photograph():
    return comparing.photographs()["chelsea"]


def test_a_mistake_comes_back_as_a_line_and_the_process_stays(worker):
    with pytest.raises(UserError, match="different things"):
        worker.call("show", (*PAIR, ("gan", "gan", 0.0)), photograph(), OPTIONS)
    pid = worker._process.pid
    with pytest.raises(UserError, match="KeyError"):
        worker.call("nothing")
    assert worker._process.pid == pid


def test_a_call_that_takes_too_long_is_ended_and_the_next_one_answered(worker):
    worker.start()
    first = worker._process.pid
    worker.limits = replace(worker.limits, request_seconds=0)
    with pytest.raises(UserError, match="longer than the 0 s"):
        worker.call("show", PAIR, photograph(), OPTIONS)
    assert not psutil.pid_exists(first)
    worker.limits = replace(worker.limits, request_seconds=120)
    names, shown = worker.call("show", PAIR, photograph(), OPTIONS)
    assert names == ["denoiser"]
    assert shown.sheet.width > 100
    assert worker._process.pid != first


def test_memory_is_bounded(tmp_path):
    worker = Worker(Limits(folder=tmp_path, request_bytes=64 * 2**20))
    with pytest.raises(UserError, match="memory"):
        worker.call("show", PAIR, photograph(), OPTIONS)
    worker.end()


def test_it_leaves_with_its_server(tmp_path):
    begun = (
        "import time; from pathlib import Path; from kdgen.ui.limits import Limits; from kdgen.ui.worker import Worker; "
        f"worker = Worker(Limits(folder=Path({str(tmp_path)!r}))); worker.start(); "
        "print(worker._process.pid, flush=True); time.sleep(300)"
    )
    server = subprocess.Popen([sys.executable, "-c", begun], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    pid = int(server.stdout.readline())
    time.sleep(5)
    server.send_signal(signal.SIGKILL)
    server.wait()
    until = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.2)
