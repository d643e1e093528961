"""From somebody's file to a student, its controls and a report, by `kdgen distill FILE --minutes 10` and nothing else.

    python benchmarks/files.py --data ../shared/data
    python benchmarks/files.py imdn x4plus --data ../shared/data --seeds 0 1 2 --out runs/files

The folder of data holds published weights under the names that declarations in `examples/` give, and `realesrgan`; the
students of upscalers are measured on its `sr-sets/Set5/HR` and `denoise-sets/BSD68` too. Each run is a command of its
own, and those that are there already are not run again. Figures are those of the runs' reports, means and sample
standard deviations over the seeds.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from kdgen import load
from kdgen.registry import Spec, build
from kdgen.report.compare import measure
from kdgen.report.report import ROLES, Report, Row, count

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES: Mapping[str, Sequence[str]] = {
    "x4plus": ("realesrgan/x4plus.safetensors",),
    "imdn": ("imdn.json", "--code", "upscalers.py"),
    "waifu2x": ("waifu2x_vgg7.json", "--code", "waifu2x.py", "--cheaper", "15"),
    "zero-dce": ("zero_dce.json", "--code", "low_light.py"),
    "iat": ("iat.json", "--code", "low_light.py"),
    "stylize": ("stylize.json", "--code", "style_net.py"),
}
"""What stands behind `kdgen distill`, seen from a folder where examples and weights lie side by side."""

ENLARGED = ("imdn",)
"""Those measured on sets of photographs too."""

SETS = {"Set5": "sr-sets/Set5/HR", "BSD68": "denoise-sets/BSD68"}


def side_by_side(data: Path, out: Path) -> Path:
    """A folder with the examples and the weights, as the examples' README asks for."""
    home = out / "examples"
    home.mkdir(parents=True, exist_ok=True)
    for entry in (*EXAMPLES.iterdir(), *data.iterdir()):
        link = home / entry.name
        if not link.exists():
            link.symlink_to(entry.resolve())
    return home


def run(name: str, seed: int, minutes: float, home: Path, folder: Path) -> None:
    """The command, in a process of its own that pays for its own answers."""
    if (folder / "report.json").is_file():
        return
    how = ["--minutes", str(minutes), "--seed", str(seed), "--out", str(folder.absolute())]
    command = ["-m", "kdgen", "distill", *FILES[name], *how]
    print("$ python", *command, flush=True)
    own = {**os.environ, "KDGEN_CACHE": str(folder.absolute().parent / "cache" / folder.name)}
    subprocess.run([sys.executable, *command], cwd=home, env=own, check=True)


def on_sets(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """PSNR in dB of luma on sets of photographs, by role and set: the student and the controls of a run."""
    homes = {"student": folder / "student", **{role: folder / "controls" / role for role in ROLES if "control" in role}}
    figures: dict[str, dict[str, float]] = {}
    for title, path in SETS.items():
        source = {"name": "folder", "args": {"path": str(data / path)}}
        damages = [{"name": "shrink", "args": {"scale": 4}}]
        task = build("task", Spec(name="restore", args={"damages": damages, "measure": "y", "evaluate": source}))
        for role, home in homes.items():
            if home.is_dir():
                row = measure("model", load(home).net, task, name=role, timed=False)
                figures.setdefault(role, {})[title] = row.metrics["psnr_y"]
    return figures


def lines(name: str, reports: Sequence[Report], sets: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The rows of one file's table."""
    metrics = list(dict.fromkeys(key for row in reports[0].rows for key in row.metrics))
    titles = list(SETS) if any(sets) else []
    header = ["", *metrics, *titles, "MACs", "fewer", "latency (ms)", "steps", "seconds"]
    out = [f"\n### {name}\n", f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    teacher = reports[0].find("teacher")
    assert teacher is not None
    for first in reports[0].rows:
        rows = [row for report in reports if (row := report.find(first.role)) is not None]
        cells = [figure([row.metrics[key] for row in rows], key) if key in first.metrics else "" for key in metrics]
        cells += [figure([each[first.role][title] for each in sets], "psnr_y") if first.role in sets[0] else ""
                  for title in titles]  # fmt: skip
        out.append(f"| {ROLES[first.role]} | {' | '.join([*cells, *costs(rows, teacher)])} |")
    return [*out, "", *map(str, reports[0].sentences())]


def figure(values: Sequence[float], metric: str) -> str:
    """A mean, and the spread where there are several."""
    decimals = 2 if metric.startswith("psnr") else 4
    spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{decimals}f}{spread}"


def costs(rows: Sequence[Row], teacher: Row) -> list[str]:
    """MACs, how many times fewer, latency, and the means of steps and seconds, of the same net in several runs."""
    first, *_ = rows
    if not first.num_params:
        return [""] * 5
    length = ["", ""] if first.steps is None else [f"{fmean(row.steps or 0 for row in rows):.0f}",
                                                   f"{fmean(row.seconds or 0 for row in rows):.0f}"]  # fmt: skip
    return [count(first.macs), f"{teacher.macs / first.macs:.1f}x", f"{first.latency_ms:.1f}", *length]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=list(FILES), help=", ".join(FILES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the published weights")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/files"))
    args = parser.parse_args()
    home = side_by_side(args.data, args.out)
    for name in args.files:
        folders = [args.out / f"{name}-{seed}" for seed in args.seeds]
        for seed, folder in zip(args.seeds, folders, strict=True):
            run(name, seed, args.minutes, home, folder)
        sets = [on_sets(folder, args.data) if name in ENLARGED else {} for folder in folders]
        print("\n".join(lines(name, [Report.read(folder) for folder in folders], sets)), flush=True)


if __name__ == "__main__":
    main()
