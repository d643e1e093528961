"""Whole runs on a machine that misbehaves: each in a process of its own, forked from one that is warm.

A run ends well if it ends as if nothing had happened: with the same student, bit for bit, at once or after `kdgen
resume`; or if it stops with a line that says what to do and nothing half-written stands for a whole.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401 - what runs import late, so that children need not
import numpy as np
import torch
import torch._dynamo
from faults import tiny
from PIL import Image

from kdgen.__main__ import main
from kdgen.answers import AnswerPool
from kdgen.model import load
from kdgen.types import UserError

LONGEST = 300
"""Seconds after which a run counts as hanging."""

CODES = {0: "done", 2: "refused", 3: "disk full", 130: "stopped", -signal.SIGKILL: "killed", 70: "traceback"}


def forked(work: Callable[[], object], log: Path, *, kill_after: float | None = None) -> str:
    """Do something in a child; how it ended. What it says goes to a file."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return CODES.get(code, f"code {code}")
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        if time.monotonic() - started > LONGEST:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang"
        time.sleep(0.002)


class Bench:
    """A folder to work in, the tiny recipe, and the student that it makes when nothing goes wrong."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.data = tiny.make(folder / "tiny", controls=False, **changes)
        self.log = folder / "log.txt"
        started = time.monotonic()
        assert self.distill(folder / "whole") == "done", self.log.read_text()
        self.seconds = time.monotonic() - started
        self.student = self.made(folder / "whole")

    def recipe(self, **changes: Any) -> Path:
        """The recipe as a file."""
        file = self.folder / "recipe.json"
        file.write_text(json.dumps({**self.data, **changes}))
        return file

    def distill(self, run: Path, *, kill_after: float | None = None, before: Callable[[], object] = lambda: None,
                **changes: Any) -> str:  # fmt: skip
        """Begin a run in a child, after ``before`` there."""
        words = ["distill", str(self.recipe(**changes)), "--out", str(run), "--quiet"]
        return forked(lambda: (before(), main(words)), self.log, kill_after=kill_after)

    def resume(self, run: Path, *, kill_after: float | None = None) -> str:
        """Go on with a run in a child; begin it if it never got as far as a recipe."""
        if not (run / "recipe.json").is_file():
            shutil.rmtree(run, ignore_errors=True)
            return self.distill(run, kill_after=kill_after)
        return forked(lambda: main(["resume", str(run), "--quiet"]), self.log, kill_after=kill_after)

    def made(self, run: Path) -> bytes | None:
        """The student of a run, None where it says that there is none."""
        try:
            load(run)
        except UserError:
            return None
        return (run / "student" / "model.safetensors").read_bytes()

    def verdict(self, run: Path, end: str) -> str:
        """How a run ended, and ``wrong`` if what stands there is not the student that should."""
        made = self.made(run)
        if end == "done":
            return "same student" if made == self.student else "wrong"
        return end if made in (None, self.student) else "wrong"


def killed(bench: Bench, count: int, *, seed: int = 0) -> Counter[str]:
    """SIGKILL at random moments, twice each run: of the run and of what goes on with it."""
    ends, dice = Counter[str](), random.Random(seed)
    moments = 0
    while moments < count:
        run = bench.folder / f"killed-{moments}"
        if dice.random() < 0.3:
            shutil.rmtree(bench.data["pool"]["dir"], ignore_errors=True)
        end = bench.distill(run, kill_after=dice.uniform(0, bench.seconds))
        for _ in range(2):
            moments += end == "killed"
            if bench.made(run) not in (None, bench.student):
                ends["wrong"] += 1
            end = bench.resume(run, kill_after=dice.uniform(0, bench.seconds) if moments < count and _ == 0 else None)
            if end == "done":
                break
        ends[bench.verdict(run, end)] += 1
        shutil.rmtree(run, ignore_errors=True)
    ends["moments of SIGKILL"] = moments
    return ends


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[str], None]]:
    """A file system of so many bytes at a folder, and a function that mounts it anew with other options.

    Raises:
        OSError: where this user may not mount one.
    """

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip())

    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield lambda options: mount("-o", f"remount,{options}", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def full_disk(bench: Bench, count: int) -> Counter[str]:
    """A disk that is full at ever later writes, from the first byte to the last; then space is freed."""
    ends = Counter[str]()
    whole = sum(f.stat().st_size for f in (bench.folder / "whole").rglob("*") if f.is_file())
    pool = sum(f.stat().st_size for f in Path(bench.data["pool"]["dir"]).rglob("*") if f.is_file())
    for number in range(count):
        disk = bench.folder / f"disk-{number}"
        with small_disk(disk, 4096 + round((whole + pool) * 1.3 * number / max(count - 1, 1))) as remount:
            pool_there = {"pool": {**bench.data["pool"], "dir": str(disk / "cache")}}
            end = bench.verdict(disk / "run", bench.distill(disk / "run", **pool_there))
            ends[f"first: {end}"] += 1
            remount("size=256m")
            if not (disk / "run" / "recipe.json").is_file():
                shutil.rmtree(disk / "run", ignore_errors=True)
                again = bench.distill(disk / "run", **pool_there)
            else:
                again = bench.resume(disk / "run")
            ends[f"with space: {bench.verdict(disk / 'run', again)}"] += 1
    return ends


def read_only(bench: Bench, count: int) -> Counter[str]:
    """A run folder, and a cache, on a disk that is or becomes read-only."""
    ends = Counter[str]()
    for number in range(count):
        disk = bench.folder / f"read-only-{number}"
        with small_disk(disk, 2**26) as remount:
            (disk / "cache").mkdir()
            here = {"pool": {**bench.data["pool"], "dir": str(disk / "cache")}} if number % 2 else {}
            run = bench.folder / f"run-{number}" if number % 2 else disk / "run"
            remount("ro")
            ends[bench.verdict(run, bench.distill(run, **here))] += 1
            remount("rw")
            ends[f"writable again: {bench.verdict(run, bench.resume(run))}"] += 1
    return ends


def damaged_pool(bench: Bench, count: int) -> Counter[str]:
    """A file of the cached answers truncated, zeroed, or with flipped bits, before a run that would use them."""
    from faults.fuzz import damaged

    ends, dice = Counter[str](), random.Random(4)
    for number in range(count):
        files = sorted(f for f in Path(bench.data["pool"]["dir"]).rglob("*") if f.is_file() and f.suffix != ".lock")
        file = dice.choice(files)
        file.write_bytes(damaged(file.read_bytes(), dice))
        run = bench.folder / f"pool-{number}"
        end = bench.verdict(run, bench.distill(run))
        ends[end] += 1
        if end != "same student":
            shutil.rmtree(bench.data["pool"]["dir"])
            bench.distill(bench.folder / f"renewed-{number}", steps=1)
        shutil.rmtree(run, ignore_errors=True)
    return ends


def not_finite(bench: Bench, count: int) -> Counter[str]:
    """NaN in one batch, and in all from one on."""
    ends = Counter[str]()
    whole = AnswerPool.__getitem__
    for number in range(count):
        calls = iter(range(10**9))

        def poisoned(self: AnswerPool, index: torch.Tensor, first: int = 7 * number, lasting: bool = number % 2 == 1,
                     calls: Iterator[int] = calls) -> Any:  # fmt: skip
            batch, answer = whole(self, index)
            call = next(calls)
            if call == first or (lasting and call > first):
                batch.x.fill_(float("nan"))
            return batch, answer

        run = bench.folder / f"nan-{number}"
        end = bench.distill(run, before=lambda poisoned=poisoned: setattr(AnswerPool, "__getitem__", poisoned))
        finite = end != "done" or all(bool(p.isfinite().all()) for p in load(run).parameters())
        ends[f"{'lasting' if number % 2 else 'once'}: {end if finite else 'wrong'}"] += 1
    return ends


def jumping_clock(bench: Bench, count: int) -> Counter[str]:
    """The clock of the machine set hours ahead and back at every look."""
    ends = Counter[str]()
    real = time.time
    for number in range(count):
        dice = random.Random(number)
        run = bench.folder / f"clock-{number}"

        def jump(dice: random.Random = dice) -> None:
            time.time = lambda: real() + dice.uniform(-1e5, 1e5)

        ends[bench.verdict(run, bench.distill(run, before=jump))] += 1
    return ends


def changing_data(bench: Bench, count: int) -> Counter[str]:
    """A folder of images that loses, truncates, and gains pictures while a run trains on it."""
    ends, dice = Counter[str](), random.Random(5)
    for number in range(count):
        folder = bench.folder / f"data-{number}"
        folder.mkdir()
        for name in range(6):
            noise = np.random.default_rng(name).integers(0, 255, (48, 48), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{name}.png")
        source = {"name": "folder", "args": {"path": str(folder), "max_gib": 1e-9}}
        task = {**bench.data["task"], "args": {**bench.data["task"]["args"], "images": source}}
        run = bench.folder / f"changing-{number}"
        changer = os.fork()
        if changer == 0:
            for _ in range(200):
                time.sleep(dice.uniform(0, 0.02))
                file = folder / f"{dice.randrange(6)}.png"
                way = dice.randrange(3)
                if way == 0:
                    file.unlink(missing_ok=True)
                elif way == 1 and file.exists():
                    file.write_bytes(file.read_bytes()[: dice.randrange(1, 200)])
                else:
                    file.write_bytes(b"no picture")
            os._exit(0)
        end = bench.distill(run, task=task, pool={"patches": 0})
        os.waitpid(changer, 0)
        ends[end] += 1
        ends[f"resumed: {bench.resume(run)}"] += end != "done"
    return +ends
