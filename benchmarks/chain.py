"""Teacher, assistant, student beside teacher, student, at equal seconds in all.

    python benchmarks/chain.py
    python benchmarks/chain.py --preset gan --seconds 200 --seeds 0 1 2

The assistant is of the student's family and between the two in size; it gets half of the chain's seconds. All nets are
measured against the teacher, as the preset measures them.
"""

import argparse
import os
from pathlib import Path

from kdgen import Recipe, Spec, distill, preset, resume
from kdgen.recipe import Assistant
from kdgen.report.report import Report

ASSISTANTS = {
    "gan": Spec(name="conv_generator", args={"latent": 64, "width": 18}),
    "diffusion": Spec(name="unet2d", args={"block_out_channels": [8, 24, 48, 64]}),
    "autoencoder": Spec(name="vae", args={"widths": [16, 32, 48], "sample": False}),
}


def report(recipe: Recipe, folder: Path) -> Report:
    """The report of a run, trained unless it is there."""
    os.environ["KDGEN_CACHE"] = str(folder.parent / "cache" / folder.name)  # each pays for its own answers
    for event in resume(folder) if (folder / "recipe.json").is_file() else distill(recipe, folder):
        if event.kind in ("phase", "warning", "stopped"):
            print(f"{folder.name} {event.phase}: {dict(event.data)}", flush=True)
        if event.kind == "stopped":
            raise SystemExit(130)
    return Report.read(folder)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(ASSISTANTS), default="gan")
    parser.add_argument("--seconds", type=float, default=200, help="of the chain, and of the direct distillation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/chain"))
    args = parser.parse_args()
    lines = []
    for seed in args.seeds:
        direct = preset(args.preset).lasting(seconds=args.seconds)
        direct = direct.model_copy(update={"controls": False, "seed": seed})
        chain = direct.model_copy(update={"assistants": (Assistant(student=ASSISTANTS[args.preset]),)})
        for name, recipe in (("direct", direct), ("chain", chain)):
            made = report(recipe, args.out / f"{args.preset}-{args.seconds:g}s-{name}-{seed}")
            for row in made.rows:
                if row.role in ("assistant", "student"):
                    shown = (f"{row.metrics[key]:.4g}" for key in ("psnr", made.primary_metric))
                    lines.append(f"| {name} | {row.role} | {seed} | {' | '.join(shown)} | {row.seconds:.0f} |")
    print(f"\n| | | seed | PSNR to the teacher (dB) | {made.primary_metric} | seconds |\n|---|---|---:|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
