"""Whether kdgen does on a GPU what it does on a CPU, and how fast, in at most nine minutes of one H100 or H200.

    python benchmarks/gpu.py --wheels wheels                      # where there is a network: what a bare machine lacks
    python benchmarks/gpu.py --install wheels --out runs/gpu      # on the machine with the GPU
    python benchmarks/gpu.py --device cpu --quick                 # every line of it, without one

The parts, each bounded in seconds; what there is no time for is a row that says so:

    methods   two steps of every registered method, objective, ratio and optimiser there and on the CPU, from the same
              weights with the same draws: losses and weights within a tolerance, without TF32
    runs      a run repeated, interrupted and resumed, resumed on the CPU, from cached answers, in mixed precision; the
              bundled models' answers there and on the CPU
    speed     steps a second of a denoiser, a diffusion U-Net and a GAN: the loop that everybody writes, the same
              compiled, around NVIDIA's modelopt, and here; each in float32 and in bfloat16, compiling counted apart
    pipelines Stable Diffusion XL with random weights: a LoRA and DMD2, seconds and memory beside `kdgen plan`
    presets   the presets made for GPUs, some seconds each

Every row is written to `gpu.json` as it ends, and the table to `table.md` at the end. The exit code is 1 if anything
failed or was beyond its tolerance, else 0. The machine is one with Python 3.12 and torch 2.11, and what `--wheels` does
not list; no data is needed.
"""

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from gpu.ledger import Ledger, Outcome, Setup, carry_out
from gpu.wheels import declare, fetch, install

BOUNDS = {"methods": 100.0, "runs": 80.0, "speed": 170.0, "pipelines": 300.0, "presets": 540.0}
"""Seconds for each part at most; all together have ``--limit``."""

GRACE = 20.0
"""Seconds beyond its bound after which a part is killed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all parts, each in a process of its own, and print the table; the exit code."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="everything as small as it can be")
    parser.add_argument("--only", nargs="*", choices=tuple(BOUNDS), default=tuple(BOUNDS), metavar="PART")
    parser.add_argument("--limit", type=float, default=520.0, help="seconds for all")
    parser.add_argument("--seconds", type=float, default=45.0, help="for each preset")
    parser.add_argument(
        "--start", choices=("fork", "spawn"), help="how parts begin; default spawn for CUDA, which no fork survives"
    )
    parser.add_argument("--code", type=Path, nargs="*", help="files that register methods of your own")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--wheels", type=Path, help="fetch what a bare machine lacks into this folder, and end")
    parser.add_argument("--install", type=Path, help="use the wheels in this folder")
    args = parser.parse_args(arguments)
    if args.wheels is not None:
        return fetch(args.wheels)
    if args.install is not None:
        install(args.install)
    declare()
    began, ledger = time.monotonic(), Ledger(args.out)
    ledger.begin()
    start = args.start or ("spawn" if args.device.startswith("cuda") else "fork")
    parts = multiprocessing.get_context(start)
    if start == "fork":
        _register(args.code)
    with tempfile.TemporaryDirectory(prefix="kdgen-gpu-") as scratch:
        os.environ["KDGEN_CACHE"] = f"{scratch}/cache"
        for name in args.only:
            left = args.limit - (time.monotonic() - began)
            bound = left if args.quick else min(BOUNDS[name], left)
            setup = Setup(device=args.device, quick=args.quick, scratch=Path(scratch, name),
                          deadline=time.monotonic() + bound, seconds=args.seconds)  # fmt: skip
            told = (name, setup, ledger)
            process = (
                parts.Process(target=_fresh_part, args=(*told, args.code))
                if start == "spawn"
                else parts.Process(target=_part, args=told)
            )
            process.start()
            process.join(max(bound, 0) + GRACE)
            if process.exitcode is None:
                process.kill()
                process.join()
                ledger.add(name, "the part", "failed", Outcome(note=f"killed {GRACE:.0f} s after its time was over"))
            elif process.exitcode:
                ledger.add(name, "the part", "failed", Outcome(note=f"its process ended with {process.exitcode}"))
    ledger.machine(seconds=round(time.monotonic() - began))
    (args.out / "table.md").write_text(ledger.table() + "\n")
    print(f"\n{ledger.table()}")
    return int(ledger.bad)


def _register(code: Sequence[Path] | None) -> None:
    from kdgen.cli.arguments import register_all

    register_all(code)


def _fresh_part(name: str, setup: Setup, ledger: Ledger, code: Sequence[Path] | None) -> None:
    """One part, in a process that knows nothing of its parent's."""
    _register(code)
    _part(name, setup, ledger)


def _part(name: str, setup: Setup, ledger: Ledger) -> None:
    """One part, in a process that may lose its GPU without the others losing theirs."""
    import torch

    from kdgen.utils.devices import machine, pick_device

    threading.Thread(target=_with_parent, daemon=True).start()
    device = pick_device(setup.device)
    facts = {"machine": machine(device), "torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        facts |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    ledger.machine(**facts, threads=torch.get_num_threads())
    setup.scratch.mkdir(parents=True)
    carry_out(name, import_module(f"gpu.{name}").items, setup, ledger)


def _with_parent() -> None:
    """End this process when the one that began it is gone."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
