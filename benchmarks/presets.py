"""Every preset on this machine, in one table: what was kept of the teacher, what was saved, and the controls.

    python benchmarks/presets.py
    python benchmarks/presets.py gan diffusion --seconds 60 --out runs/presets

Each is a run of `kdgen distill PRESET`, its report and pictures in a folder of its own; those that are there already
are not run again. Latency is that of one call of the net, an image or a step of the sampler.
"""

import argparse
import os
import time
from pathlib import Path

from kdgen import Recipe, distill, preset, resume
from kdgen.report.report import ROLES, Report, Row, count

PRESETS = ("gan", "gan-to-mlp", "high-to-low", "vae", "vae-decoder", "autoencoder", "diffusion", "diffusion-blocks")
METRICS = {
    "PSNR to the teacher (dB)": ("psnr@teacher", "psnr"),
    "fd to the teacher": ("fd_features32@teacher", "fd_features32"),
    "precision": ("precision@teacher", "precision"),
    "recall": ("recall@teacher", "recall"),
    "diversity": ("diversity",),
    "sharpness": ("sharpness@teacher", "sharpness"),
}
"""Columns, and the names that reports have for them: against the teacher where a task has figures against both."""


def line(name: str, row: Row, teacher: Row) -> str:
    """A row of the table."""
    saved = f"{teacher.macs / row.macs:.1f}x" if row is not teacher else ""
    figures = [figure(row, names) for names in METRICS.values()]
    seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
    cells = [name, ROLES[row.role], count(row.macs), saved, f"{row.latency_ms:.2f}", *figures, seconds]
    return f"| {' | '.join(cells)} |"


def figure(row: Row, names: tuple[str, ...]) -> str:
    """The first of a row's metrics by these names; the teacher's own, where they are against the data, are left out."""
    if row.role == "teacher" and "psnr" in row.metrics and names != ("diversity",):
        return ""
    return next((f"{row.metrics[name]:.3g}" for name in names if name in row.metrics), "")


def run(recipe: Recipe, folder: Path) -> bool:
    """Train and measure, with images and answers of its own; whether it came to its end."""
    os.environ["KDGEN_CACHE"] = str(folder.parent / "cache" / folder.name)
    started = time.perf_counter()
    for event in resume(folder) if (folder / "recipe.json").is_file() else distill(recipe, folder):
        if event.kind in ("phase", "warning", "stopped"):
            print(f"{folder.name} {event.phase}: {dict(event.data)}", flush=True)
        if event.kind == "stopped":
            return False
    print(f"{folder.name}: {time.perf_counter() - started:.0f} s for the whole run", flush=True)
    return True


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS, help="default all that make or change small images")
    parser.add_argument("--seconds", type=float, help="for each student; default what the preset says")
    parser.add_argument("--out", type=Path, default=Path("runs/presets"))
    args = parser.parse_args()
    lines = []
    for name in args.presets:
        recipe, folder = preset(name), args.out / name
        recipe = recipe if args.seconds is None else recipe.lasting(seconds=args.seconds)
        if not (folder / "report.json").is_file() and not run(recipe, folder):
            return
        report = Report.read(folder)
        teacher = report.find("teacher")
        assert teacher is not None
        lines += [line(name, row, teacher) for row in report.rows if row.num_params]
        print(f"{name}: {' '.join(report.sentences())}", flush=True)
    titles = ["preset", "", "MACs", "fewer", "latency (ms)", *METRICS, "seconds"]
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * 2}{'---:|' * (len(titles) - 2)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
