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

from kdgen import load
from kdgen.registry import Spec, build
from kdgen.report.compare import measure, merge
from kdgen.report.report import ROLES, Report

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
        link.unlink(missing_ok=True)  # of another checkout, say
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


def report_of(name: str, folder: Path, data: Path) -> Report:
    """The report of a run; of an upscaler with PSNR in dB of luma on sets of photographs too."""
    report = Report.read(folder)
    if name not in ENLARGED:
        return report
    homes = {"student": folder / "student", **{role: folder / "controls" / role for role in ROLES if "control" in role}}
    rows = [row.model_copy(update={"metrics": {**row.metrics, **on_sets(homes[row.role], data)}})
            if row.role in homes else row for row in report.rows]  # fmt: skip
    return report.model_copy(update={"rows": tuple(rows)})


def on_sets(student: Path, data: Path) -> dict[str, float]:
    """PSNR in dB of luma on sets of photographs, by set."""
    figures, net = {}, load(student).net
    for title, path in SETS.items():
        source = {"name": "folder", "args": {"path": str(data / path)}}
        damages = [{"name": "shrink", "args": {"scale": 4}}]
        task = build("task", Spec(name="restore", args={"damages": damages, "measure": "y", "evaluate": source}))
        figures[title] = measure("model", net, task, name=title, timed=False).metrics["psnr_y"]
    return figures


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
        reports = [report_of(name, folder, args.data) for folder in folders]
        print(f"\n## {name}\n\n{(merge(reports) if len(reports) > 1 else reports[0]).to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
