"""Whole runs on a machine that misbehaves: each in a process of its own, forked from one that is warm.

A run ends well if it ends as if nothing had happened: with the same student, bit for bit, at once or after `kdgen
resume`; or if it stops with a line that says what to do and nothing half-written stands for a whole.
"""

import mmap
import os
import random
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults.bench import Bench, ending, start
from faults.fuzz import damaged
from PIL import Image

from kdgen.__main__ import main
from kdgen.models.model import load
from kdgen.training.teacher_cache import TeacherCache


def killed(bench: Bench, count: int, *, seed: int = 0) -> Counter[str]:
    """SIGKILL at random moments, twice each run: of the run and of what goes on with it."""
    ends, dice = Counter[str](), random.Random(seed)
    moments = 0
    while moments < count:
        run = bench.folder / f"killed-{moments}"
        if dice.random() < 0.3:
            shutil.rmtree(bench.data["cache"]["dir"], ignore_errors=True)
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


def killed_pairs(bench: Bench, count: int) -> Counter[str]:
    """SIGKILL at random moments of one of two processes that train together, once they have met.

    The other one is given 30 s to notice and end by itself; then one alone goes on. Two processes sum their gradients
    in another order than one does, so that the student is compared to 1e-3. Before they have met, it is what launched
    them that ends the others.
    """
    ends, dice = Counter[str](), random.Random(6)
    pairs = 0
    while ends["moments of SIGKILL"] < count:
        run = bench.folder / f"pair-{(pairs := pairs + 1)}"
        pair = _pair(bench, run)
        while not (run / "recipe.json").is_file():
            time.sleep(0.002)
        dice.shuffle(pair)
        first = ending(pair[0], kill_after=dice.uniform(0, bench.seconds))
        other = ending(pair[1], longest=30)
        ends["moments of SIGKILL"] += first == "killed"
        ends[f"the other: {other}"] += 1
        end = other if other == "done" else bench.resume(run)
        ends["same student" if end == "done" and _near(bench.folder / "whole", run) else f"after it: {end}"] += 1
        shutil.rmtree(run, ignore_errors=True)
    return +ends


def _pair(bench: Bench, run: Path) -> list[int]:
    """Begin a run of two processes; their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    words = ["distill", str(bench.recipe()), "--out", str(run), "--quiet"]

    def join(rank: int) -> None:
        os.environ.update(known, RANK=str(rank), LOCAL_RANK=str(rank))
        main(words)

    return [start(lambda rank=rank: join(rank), bench.log) for rank in range(2)]


def _near(ours: Path, theirs: Path) -> bool:
    pairs = zip(load(ours).parameters(), load(theirs).parameters(), strict=True)
    return all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


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


def full_disk(bench: Bench, stride: int) -> Counter[str]:
    """A disk that is full at every page that the run writes, or every ``stride`` pages; then space is freed."""
    ends = Counter[str]()
    pages, first = 1, ""
    while first != "same student":
        disk = bench.folder / f"disk-{pages}"
        with small_disk(disk, pages * mmap.PAGESIZE) as remount:
            cache_there = {"cache": {**bench.data["cache"], "dir": str(disk / "cache")}}
            first = bench.verdict(disk / "run", bench.distill(disk / "run", **cache_there))
            ends[f"first: {first}"] += 1
            remount("size=256m")
            if not (disk / "run" / "recipe.json").is_file():
                shutil.rmtree(disk / "run", ignore_errors=True)
                again = bench.distill(disk / "run", **cache_there)
            else:
                again = bench.resume(disk / "run")
            ends[f"with space: {bench.verdict(disk / 'run', again)}"] += 1
        pages += stride
    return ends


def read_only(bench: Bench, count: int) -> Counter[str]:
    """A run folder, and a cache, on a disk that is or becomes read-only."""
    ends = Counter[str]()
    for number in range(count):
        disk = bench.folder / f"read-only-{number}"
        with small_disk(disk, 2**26) as remount:
            (disk / "cache").mkdir()
            here = {"cache": {**bench.data["cache"], "dir": str(disk / "cache")}} if number % 2 else {}
            run = bench.folder / f"run-{number}" if number % 2 else disk / "run"
            remount("ro")
            ends[bench.verdict(run, bench.distill(run, **here))] += 1
            remount("rw")
            ends[f"writable again: {bench.verdict(run, bench.resume(run))}"] += 1
    return ends


def damaged_cache(bench: Bench, count: int) -> Counter[str]:
    """A file of the cached answers truncated, zeroed, or with flipped bits, before a run that would use them."""
    ends, dice = Counter[str](), random.Random(4)
    for number in range(count):
        files = sorted(f for f in Path(bench.data["cache"]["dir"]).rglob("*") if f.is_file() and f.stat().st_size)
        file = dice.choice(files)
        file.write_bytes(damaged(file.read_bytes(), dice))
        run = bench.folder / f"cache-{number}"
        end = bench.verdict(run, bench.distill(run))
        ends[end] += 1
        if end != "same student":
            shutil.rmtree(bench.data["cache"]["dir"])
            bench.distill(bench.folder / f"renewed-{number}", steps=1)
        shutil.rmtree(run, ignore_errors=True)
    return ends


def not_finite(bench: Bench, count: int) -> Counter[str]:
    """NaN in one batch, and in all from one on."""
    ends = Counter[str]()
    whole = TeacherCache.__getitem__
    for number in range(count):
        calls = iter(range(10**9))

        def poisoned(self: TeacherCache, index: torch.Tensor, first: int = 7 * number, lasting: bool = number % 2 == 1,
                     calls: Iterator[int] = calls) -> Any:  # fmt: skip
            batch, answer = whole(self, index)
            call = next(calls)
            if call == first or (lasting and call > first):
                batch.x.fill_(float("nan"))
            return batch, answer

        run = bench.folder / f"nan-{number}"
        end = bench.distill(run, before=lambda poisoned=poisoned: setattr(TeacherCache, "__getitem__", poisoned))
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
        end = bench.distill(run, task=task, cache={"inputs": 0})
        os.waitpid(changer, 0)
        ends[end] += 1
        ends[f"resumed: {bench.resume(run)}"] += end != "done"
    return +ends
