"""The machine and its users at their worst: runs killed, disks full, files damaged, inputs made of nonsense.

    python benchmarks/faults --cases 10000 --kills 50 --out runs/faults.json

Prints how everything ended. Nothing may end as ``traceback``, ``hang`` or ``wrong`` (something half-written or damaged
taken for a whole one); the exit code is 1 if anything does. Small disks are made with tmpfs, which takes root; without
it those rows say so.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import fuzz, runs, tiny
from faults.bench import Bench

from kdgen.cli.arguments import register_all

PLAIN = {"methods": [{"name": "output"}], "optimizer": "sgd", "lr": 0.05}
"""A stage whose result depends smoothly on rounding, for what is compared to a tolerance."""

BAD = ("traceback", "hang", "wrong", "code")


def main() -> None:
    """Run, print, and keep the outcomes as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="fuzzed inputs")
    parser.add_argument("--kills", type=int, default=50, help="moments of SIGKILL, of one process and of one of two")
    parser.add_argument("--stride", type=int, default=1, help="pages between the sizes of disks that fill")
    parser.add_argument("--runs", type=int, default=10, help="runs of every other kind")
    parser.add_argument("--only", nargs="*", help="names of rows")
    parser.add_argument("--out", type=Path, help="keep the outcomes as JSON")
    args = parser.parse_args()
    register_all(None)
    rows: dict[str, dict[str, int]] = {}
    print("| what | how it ended | s |\n|---|---|---:|")

    def show(name: str, ends: Counter[str], seconds: float, defects: dict[str, str] | None = None) -> None:
        rows[name] = dict(ends)
        print(f"| {name} | {', '.join(f'{n} {end}' for end, n in sorted(ends.items()))} | {seconds:.0f} |", flush=True)
        for told in list((defects or {}).values())[:5]:
            print(told, file=sys.stderr)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds: dict[str, Callable[[Bench], Counter[str]]] = {
            "killed": lambda bench: runs.killed(bench, args.kills),
            "one of two killed": lambda bench: runs.killed_pairs(bench, args.kills),
            "full disk": lambda bench: runs.full_disk(bench, args.stride),
            "read-only": lambda bench: runs.read_only(bench, args.runs),
            "damaged answers": lambda bench: runs.damaged_cache(bench, 2 * args.runs),
            "not finite": lambda bench: runs.not_finite(bench, args.runs),
            "clock": lambda bench: runs.jumping_clock(bench, args.runs),
            "data": lambda bench: runs.changing_data(bench, args.runs),
        }
        for kind, do in kinds.items():
            if args.only is not None and kind not in args.only:
                continue
            started = time.monotonic()
            try:
                changes = {"stages": [PLAIN]} if kind == "one of two killed" else {}
                bench = Bench(folder / kind.replace(" ", "-"), **changes)
                ends = do(bench)
            except OSError as error:
                print(f"| {kind} | not run: {error} | |", flush=True)
                continue
            show(kind, ends, time.monotonic() - started)
            if any(bad in end for end in ends for bad in BAD):
                print(bench.log.read_text()[-3000:], file=sys.stderr)
        if args.only is None or "fuzz" in args.only:
            for part in ("built", "students", "checkpoints", "images"):
                (folder / part).mkdir()
            started = time.monotonic()
            for tally in fuzz.everything(args.cases, folder, tiny.make(folder / "tiny")):
                show(tally.name, tally.ends, time.monotonic() - started, tally.defects)
                started = time.monotonic()
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(any(bad in end for ends in rows.values() for end in ends for bad in BAD))


if __name__ == "__main__":
    main()
