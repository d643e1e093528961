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

- `kdgen propose pipeline/ --cheaper 4` (a pipeline of diffusers that draws by words or classes)

- `kdgen propose vae#decoder --macs 0.2 --recipe vae-decoder` (a task that the model does not name itself)
"""
)
def propose(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="The model to be cheaper than.")],
    macs: Annotated[
        float | None, typer.Option(help="Largest share of the teacher's multiply-accumulates; default 0.1.")
    ] = None,
    cheaper: Annotated[float | None, typer.Option(min=1, help="How many times fewer these are, instead.")] = None,
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
    from kdgen.models.adapters.latent_model import LatentModel
    from kdgen.models.model import load
    from kdgen.report.inferred_pipeline import pipeline_task
    from kdgen.report.propose import propose as find
    from kdgen.report.report import count
    from kdgen.tasks.infer_task import measuring_task
    from kdgen.types import UserError

    if macs is not None and cheaper is not None:
        raise UserError("give one of --macs and --cheaper")
    model = load(teacher)
    if recipe is None and isinstance(model.net, LatentModel):
        task = registry.build("task", pipeline_task(model, teacher))
    elif recipe is None:
        task = measuring_task({teacher: model}, None)[1]
    else:
        task = registry.build("task", find_recipe(recipe).task)
    fraction = 0.1 if macs is None else macs
    found = find(model, task, fraction=fraction if cheaper is None else 1 / cheaper, family=net)
    macs_an_image = count(found.macs * task.calls)
    stderr.print(f"{found.use.name}: {macs_an_image} MACs an image, {found.share:.1%} of {model.name}'s; "
                 f"{found.num_params:,} parameters", markup=False)  # fmt: skip
    print(json.dumps(found.use.model_dump(mode="json")))
