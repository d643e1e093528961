"""Take out: `export`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kdgen.cli.arguments import find_recipe, register_all
from kdgen.cli.commands.options import Code, Json
from kdgen.cli.console import stderr, stdout

if TYPE_CHECKING:
    from kdgen.export import Parity

app = typer.Typer()

NEAR = {"psnr": "PSNR to the student", "relative_error": "relative error", "same_class": "same class",
        "largest": "largest difference"}  # fmt: skip
"""What figures of ``Parity.near`` are called."""


class Formats(StrEnum):
    """What `kdgen export` writes."""

    onnx = "onnx"
    onnx_fp16 = "onnx-fp16"
    ncnn = "ncnn"
    torch_export = "torch-export"
    safetensors_fp16 = "safetensors-fp16"
    int8 = "int8"
    taesd = "taesd"


@app.command(
    epilog="""
Examples:

- `kdgen export runs/denoise` (denoise.onnx: any batch, height and width)

- `kdgen export runs/denoise --format int8 --out small.onnx`

- `kdgen export runs/tiny --format taesd` (files for vae_approx of ComfyUI)

- `kdgen export vae#decoder --recipe vae-decoder --format torch-export`

onnx, onnx-fp16 and int8 need `pip install 'kdgen[export]'`, ncnn `pip install 'kdgen[ncnn]'`.
"""
)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    format: Annotated[Formats, typer.Option(help="onnx, onnx-fp16 and int8 are run by onnxruntime.")] = Formats.onnx,
    out: Annotated[
        Path | None,
        typer.Option(help="The file, or the folder of ncnn, safetensors-fp16 or taesd; default the model's name."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="PRESET_OR_RECIPE.json", help="Whose task to check it on; default what it was made for."),
    ] = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Write a model for another runtime, and beside it how near it is to the model there, and how fast."""
    register_all(code)
    from kdgen import registry
    from kdgen.export import export_model as write
    from kdgen.models.model import load

    task = registry.build("task", find_recipe(recipe).task) if recipe else None
    done = write(load(model), out, format=str(format), task=task)
    if as_json:
        print(done.parity.model_dump_json())
        return
    stdout.print(_table(done.parity))
    stderr.print(f"\n{done.path}, and its parity in {done.parity_file}", markup=False)


def _table(parity: "Parity") -> Table:
    """The student beside what was exported."""
    table = Table("", "student", parity.format, show_edge=False, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("kilobytes", *(f"{size / 1000:,.1f}" for size in parity.bytes))
    shape = "x".join(map(str, parity.latency_shape))
    table.add_row(f"ms a call, {shape}", *(f"{ms:.2f}" for ms in parity.latency_ms))
    for key in dict.fromkeys([parity.primary_metric or "", "psnr", "ssim", "feature_error"]):
        if key in parity.quality:
            table.add_row(key, *(f"{value:.4g}" for value in parity.quality[key]))
    for key, figure in parity.near.items():
        table.add_row(NEAR[key], "", figure)
    return table
