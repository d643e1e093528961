"""Plan: `propose`."""

import json
from typing import Annotated

import typer

from kdgen.cli.arguments import find_recipe, register_all
from kdgen.cli.commands.options import Code
from kdgen.cli.console import stderr

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen propose gan --macs 0.1`

- `kdgen distill gan --set student="$(kdgen propose gan --macs 0.05)"`

- `kdgen propose vae#decoder --macs 0.2 --recipe vae-decoder` (a task that the model does not name itself)
"""
)
def propose(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="The model to be cheaper than.")],
    macs: Annotated[float, typer.Option(help="Largest share of the teacher's multiply-accumulates.")] = 0.1,
    net: Annotated[str | None, typer.Option(help="See `kdgen list nets`; default the teacher's own family.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="PRESET_OR_RECIPE.json", help="Whose task to do; default what TEACHER was made for."),
    ] = None,
    code: Code = None,
) -> None:
    """Propose a student of a given cost: the largest within a share of its teacher's multiply-accumulates.

    It is printed as JSON, ready for `--set student=...`, and its figures beside it on stderr.
    """
    register_all(code)
    from kdgen import registry
    from kdgen.models.model import load
    from kdgen.report.propose import propose as find
    from kdgen.report.report import count
    from kdgen.tasks.infer_task import measuring_task

    model = load(teacher)
    if recipe is None:
        task = measuring_task({teacher: model}, None)[1]
    else:
        task = registry.build("task", find_recipe(recipe).task)
    found = find(model, task, fraction=macs, family=net)
    macs_an_image = count(found.macs * task.calls)
    stderr.print(f"{found.use.name}: {macs_an_image} MACs an image, {found.share:.1%} of {model.name}'s; "
                 f"{found.num_params:,} parameters", markup=False)  # fmt: skip
    print(json.dumps(found.use.model_dump(mode="json")))
