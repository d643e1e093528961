"""From a published denoiser to a student of at most 60,000 parameters: teacher, student, controls, photographs.

    python benchmarks/denoiser.py --data ../shared/data --seconds 600 --seeds 0
    python benchmarks/denoiser.py --data ../shared/data --seconds 180 --seeds 1 2 3

Trains, for the same seconds each and with the same net, optimiser and batches:

    student          procedural scenes, the teacher's cached answers; no photograph is seen
    control_steps    the same scenes, ground truth, as many steps as the student
    control_seconds  the same scenes, ground truth, as many seconds as the student
    photographs      400 photographs (Train400), ground truth
    photographs+     400 photographs and the teacher's cached answers

and prints PSNR on BSD68 and Set12 (grey, sigma 25), mean and spread over the seeds. Each student pays for its own
cached answers: none is taken from disk.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kdgen import Recipe, distill, load
from kdgen.metrics import psnr
from kdgen.recipe import CacheSpec, Checkpoint, Guidance, Stage
from kdgen.registry import Spec, build
from kdgen.utils.conditions import call


def teacher_in(data: Path) -> Checkpoint:
    """The published DnCNN-S for sigma 25, declared."""
    net = Spec(name="dncnn", args={"depth": 17, "width": 64, "norm": True, "bias": False})
    file = str(data / "dncnn-saoyan" / "DnCNN-S-25" / "net.pth")
    return Checkpoint(file=file, net=net, predicts="residual", prefix="module.dncnn.")


def recipe(name: str, seconds: float, seed: int, *, teacher: Checkpoint | None, images: Mapping[str, Any], patches: int,
           cache: Path, controls: bool = False) -> Recipe:  # fmt: skip
    """One training run."""
    methods = (Guidance(name="output", args={"loss": "l1"}),) if teacher else ()
    return Recipe(
        name=name,
        task=Spec(name="denoise", args={"sigma": 25, "channels": 1, "loss": "l1", "images": dict(images)}),
        teacher=teacher,
        student=Spec(name="half_res"),
        stages=(Stage(methods=methods, optimizer="muon", lr=5e-3),),
        seconds=seconds,
        batch_size=8,
        cache=CacheSpec(inputs=patches, crop=48, dir=str(cache), seed=seed),
        seed=seed,
        controls=controls,
        evaluate_every=None,
        checkpoint_every=60,
    )


@torch.inference_mode()
def quality(net: torch.nn.Module, sets: Mapping[str, Path]) -> dict[str, float]:
    """PSNR in dB by set: the mean over its images, outputs clamped."""
    figures = {}
    for name, path in sets.items():
        folder = {"name": "folder", "args": {"path": str(path)}}
        images = build("task", Spec(name="denoise", args={"sigma": 25, "evaluate": folder})).evaluation_images()
        each = [psnr(call(net, batch.x, batch.cond).clamp(-1, 1), batch.y).item() for _, batch in images]
        figures[name] = statistics.fmean(each)
    return figures


def runs(seconds: float, seed: int, args: argparse.Namespace, work: Path) -> Iterator[tuple[str, Path]]:
    """Train everything for one seed, yielding rows' names and student folders."""
    teacher = teacher_in(args.data)
    scenes = {"name": "scenes"}
    photographs = {"name": "folder", "args": {"path": str(args.data / "denoise-sets" / "Train400")}}
    patches = round(args.patches * seconds)
    plans = (
        ("student", teacher, scenes, patches, True),
        ("photographs", None, photographs, 0, False),
        ("photographs+", teacher, photographs, patches, False),
    )
    for name, who, images, inputs, controls in plans:
        if args.only and name not in args.only:
            continue
        cache = Path(tempfile.mkdtemp(dir=work))
        title = name.replace("+", "-and-teacher")
        whole = recipe(title, seconds, seed, teacher=who, images=images, patches=inputs, cache=cache, controls=controls)
        folder = work / f"{name}-{seconds:g}s-{seed}"
        last = "control_seconds" if controls else "student"
        for event in distill(whole, folder):
            if event.kind in ("phase", "warning"):
                print(f"  seed {seed} {name} {event.phase}: {dict(event.data)}", flush=True)
            if (event.kind, event.phase) == ("phase", last):
                break
        shutil.rmtree(cache)
        yield name, folder / "student"
        if controls:
            for phase in ("control_steps", "control_seconds"):
                yield phase, folder / "controls" / phase


def main() -> None:
    """Run, print, and keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dncnn-saoyan and denoise-sets")
    parser.add_argument("--seconds", type=float, default=600, help="for each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--patches", type=float, default=8, help="cached answers for each second of the run")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", help="student, photographs, photographs+")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-denoiser"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sets = {name: args.data / "denoise-sets" / name for name in ("BSD68", "Set12")}
    args.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        for name, folder in runs(args.seconds, seed, args, args.out):
            model = load(folder)
            figures = quality(model.net, sets)
            rows.setdefault(name, []).append(figures)
            print(f"seed {seed} {name}: {figures}", flush=True)
            report = {"seconds": args.seconds, "seeds": args.seeds, "threads": args.threads, "rows": rows}
            (args.out / f"figures-{args.seconds:g}s.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n| trained for {args.seconds:g} s on {args.threads} thread(s) | {' | '.join(sets)} |")
    print("|---|" + "---:|" * len(sets))
    for name, values in rows.items():
        cells = []
        for key in sets:
            column = [v[key] for v in values]
            spread = f" ± {statistics.stdev(column):.2f}" if len(column) > 1 else ""
            cells.append(f"{statistics.fmean(column):.2f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
