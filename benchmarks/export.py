"""What exported models lose and save: the bundled ones and a student, in every format, in a table.

    python benchmarks/export.py --student runs/denoise --out runs/benchmark-export.json

Formats in float32 are within 1e-4 of the model on inputs of even and of odd sizes, or they are not written. Quality is
that of the model's own task; int8 is calibrated on what the task trains on, not on the images it is measured on.
"""

import argparse
import json
import tempfile
from pathlib import Path

from kdgen.cli.arguments import register_all
from kdgen.export import FORMATS, Parity, export_model
from kdgen.models.model import load
from kdgen.types import UserError

MODELS = ("denoiser", "gan", "vae", "vae#decoder", "diffusion")


def row(name: str, parity: Parity) -> str:
    """One export as a line of the table."""
    before, after = parity.bytes
    torch_ms, ms = parity.latency_ms
    quality = ["", ""]
    if parity.primary_metric in parity.quality:
        quality = [f"{value:.4g}" for value in parity.quality[parity.primary_metric]]
    near = next(iter(parity.near.values()))
    odd = sum(any(side % 2 for side in each.shape[2:]) for each in parity.agreement)
    cells = [name, parity.format, f"{before / 1000:,.0f}", f"{after / 1000:,.0f}", f"{torch_ms:.2f}", f"{ms:.2f}",
             f"{torch_ms / ms:.2f}", f"{parity.max_abs_error:.1e}", near, f"{odd} of {len(parity.agreement)}",
             parity.primary_metric or "", *quality]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Export, print, and keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", nargs="*", default=[], help="run folders beside the bundled models")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    args = parser.parse_args()
    register_all(None)
    titles = ["model", "format", "kB", "kB exported", "ms in torch", "ms exported", "faster", "largest difference",
              "PSNR or relative error", "inputs of odd size", "figure", "of the model", "exported"]  # fmt: skip
    print(f"| {' | '.join(titles)} |\n|---|---|{'---:|' * (len(titles) - 2)}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [*args.student, *args.models]:
            model = load(name)
            for format in args.formats:
                try:
                    done = export_model(
                        model, Path(folder) / f"{model.name}-{format}{FORMATS[format].suffix}", format=format
                    )
                except UserError as error:
                    print(f"| {name} | {format} | {error} |", flush=True)
                    rows.append({"model": name, "format": format, "refused": str(error)})
                    continue
                rows.append({"model": name, **done.parity.model_dump(mode="json")})
                print(row(name, done.parity), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
