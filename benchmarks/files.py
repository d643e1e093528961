"""From somebody's file to a student, its controls and a report, by `kdgen distill FILE --minutes 10` and nothing else.

    python benchmarks/files.py --data ../shared/data
    python benchmarks/files.py imdn x4plus --data ../shared/data --seeds 0 1 2 --out runs/files

The folder of data holds published weights under the names that declarations in `examples/` give, and `realesrgan`. Each
run is a command of its own, and those that are there already are not run again; the second seed and those after it take
the first one's recipe, so that all students are of one size. Figures are those of the runs' reports, means and sample
standard deviations over the seeds; beside them stand PSNR of upscalers on its `sr-sets/Set5/HR` and
`denoise-sets/BSD68`, and, of students that are to be like their teacher, the distance to it by shift-tolerant LPIPS
(`st-lpips-alex`), by which none was trained.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from kdgen import load
from kdgen.metrics.perceptual import perceptual
from kdgen.models.tiling import whole
from kdgen.recipe import Recipe, read
from kdgen.registry import Spec, build
from kdgen.report.compare import measure, merge
from kdgen.report.report import ROLES, Report
from kdgen.types import Batch, Net

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES: Mapping[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "x4plus": ("realesrgan/x4plus.safetensors", (), ()),
    "imdn": ("imdn.json", ("--code", "upscalers.py"), ()),
    "waifu2x": ("waifu2x_vgg7.json", ("--code", "waifu2x.py"), ("--cheaper", "15")),
    "zero-dce": ("zero_dce.json", ("--code", "low_light.py"), ()),
    "iat": ("iat.json", ("--code", "low_light.py"), ()),
    "stylize": ("stylize.json", ("--code", "style_net.py"), ()),
}
"""Teacher, the code of its net and what else is asked, seen from a folder where examples and weights lie together."""

ON_SETS = ("imdn",)
"""Those measured on sets of photographs too."""

LIKE_TEACHER = ("x4plus",)
"""Those whose distance to their teacher is measured too."""

SETS = {"Set5": "sr-sets/Set5/HR", "BSD68": "denoise-sets/BSD68"}
LPIPS = "st-lpips-alex/alex_shift_tolerant.pth"


def side_by_side(data: Path, out: Path) -> Path:
    """A folder with the examples and the weights, as the examples' README asks for."""
    home = out / "examples"
    home.mkdir(parents=True, exist_ok=True)
    for entry in (*EXAMPLES.iterdir(), *data.iterdir()):
        link = home / entry.name
        link.unlink(missing_ok=True)  # of another checkout, say
        link.symlink_to(entry.resolve())
    return home


def run(name: str, seed: int, first: int, minutes: float, home: Path) -> Path:
    """The command, in a process of its own that pays for its own answers; returns the run's folder."""
    folder = home.parent.absolute() / f"{name}-{seed}"
    if (folder / "report.json").is_file():
        return folder
    teacher, code, asked = FILES[name]
    begun = [teacher, *asked, "--minutes", str(minutes)] if seed == first else [
        str(folder.with_name(f"{name}-{first}") / "recipe.json")]  # fmt: skip
    command = ["-m", "kdgen", "distill", *begun, *code, "--seed", str(seed), "--out", str(folder)]
    print("$ python", *command, flush=True)
    own = {**os.environ, "KDGEN_CACHE": str(folder.parent / "cache" / folder.name)}
    subprocess.run([sys.executable, *command], cwd=home, env=own, check=True)
    return folder


def report_of(name: str, folder: Path, data: Path) -> Report:
    """The report of a run, with what else is measured of its student and its controls."""
    report = Report.read(folder)
    homes = {"student": folder / "student", **{role: folder / "controls" / role for role in ROLES if "control" in role}}
    measured = homes if name in (*ON_SETS, *LIKE_TEACHER) else {}
    more = {role: further(name, load(home).net, folder, data) for role, home in measured.items()}
    rows = [row.model_copy(update={"metrics": row.metrics | more.get(row.role, {})}) for row in report.rows]
    return report.model_copy(update={"rows": tuple(rows)})


def further(name: str, net: Net, folder: Path, data: Path) -> dict[str, float]:
    """What is measured of a net of a run beside what its report says."""
    figures = on_sets(net, data) if name in ON_SETS else {}
    return figures | (to_teacher(net, read(folder / "recipe.json"), data) if name in LIKE_TEACHER else {})


def on_sets(net: Net, data: Path) -> dict[str, float]:
    """PSNR in dB of luma on sets of photographs, by set."""
    figures = {}
    for title, path in SETS.items():
        source = {"name": "folder", "args": {"path": str(data / path)}}
        damages = [{"name": "shrink", "args": {"scale": 4}}]
        task = build("task", Spec(name="restore", args={"damages": damages, "measure": "y", "evaluate": source}))
        figures[title] = measure("model", net, task, name=title, timed=False).metrics["psnr_y"]
    return figures


def to_teacher(net: Net, recipe: Recipe, data: Path) -> dict[str, float]:
    """The mean distance of its answers to the teacher's on the task's images, by shift-tolerant LPIPS."""
    distance, shown = perceptual(data / LPIPS), answered(str(recipe.teacher), recipe.task.model_dump_json())
    with torch.inference_mode():
        far = [distance(whole(net, batch.x, batch.cond).clamp(-1, 1), answer).item() for batch, answer in shown]
    return {"st_lpips@teacher": fmean(far)}


@cache
def answered(teacher: str, task: str) -> list[tuple[Batch, Tensor]]:
    """The images of a task, given as JSON, and a teacher's answers, each ``(1, C, H, W)`` in [-1, 1]."""
    net, batches = load(teacher).net, build("task", Spec.model_validate_json(task)).evaluation_images()
    with torch.inference_mode():
        return [(batch, whole(net, batch.x, batch.cond).clamp(-1, 1)) for _, batch in batches]


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
        folders = [run(name, seed, args.seeds[0], args.minutes, home) for seed in args.seeds]
        reports = [report_of(name, folder, args.data) for folder in folders]
        print(f"\n## {name}\n\n{(merge(reports) if len(reports) > 1 else reports[0]).to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
