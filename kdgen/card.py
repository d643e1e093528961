"""The model card of a student folder: what it is, how it was measured, how to use it, how to make it again."""

from huggingface_hub import ModelCardData

from kdgen.recipe import Checkpoint, Recipe
from kdgen.report import Report

USE = """
```python
import kdgen
from PIL import Image

student = kdgen.load("{folder}")
student(Image.open("noisy.png"), sigma={sigma}).save("clean.png")
```
"""


def card(report: Report, recipe: Recipe) -> str:
    """The card of the student of a report, in Markdown with the Hub's metadata. Only measured figures are on it."""
    methods = [term.name for stage in recipe.stages for term in stage.methods]
    data = ModelCardData(
        library_name="kdgen",
        pipeline_tag="image-to-image",
        tags=list(dict.fromkeys(["kdgen", recipe.task.name, *methods])),
    )
    if isinstance(recipe.teacher, Checkpoint):
        teacher = f"a {recipe.teacher.net} checkpoint"
    else:
        teacher = f"the teacher `{recipe.teacher}`" if recipe.teacher else "no teacher"
    sigma = recipe.task.args.get("sigma", 25)
    table = report.to_markdown().replace(f"# {report.task}", "").strip()
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {recipe.name}",
        f"A `{recipe.student}` made by kdgen with {teacher}, for {report.task}.",
        "## Figures",
        table,
        "## Use",
        USE.format(folder=recipe.name, sigma=sigma if isinstance(sigma, int | float) else 25).strip(),
        "## Make it again",
        f"`kdgen distill recipe.json` with\n\n```json\n{recipe.to_json()}\n```",
    ]
    return "\n\n".join(parts) + "\n"
