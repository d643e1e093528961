"""What a student makes of pictures beside its teacher, for a finished run: made once, in a process of its own."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

import torch
from PIL import Image

from kdgen.data import generator
from kdgen.data.photographs import full_size
from kdgen.models.drawing import captions_of
from kdgen.models.model import Model, load
from kdgen.models.task_arguments import changes_images, task_class
from kdgen.recipe import read
from kdgen.report import previews
from kdgen.report.sample_grids import tiles
from kdgen.types import UserError
from kdgen.ui.as_pictured import AsPictured
from kdgen.ui.drawn import draw
from kdgen.ui.result import CAPTIONS
from kdgen.ui.side_by_side import enlarged
from kdgen.utils.conditions import call
from kdgen.utils.convert import from_picture, sheet, to_pictures

EXAMPLE = Path(__file__).parent / "example"
"""A finished run that comes with the app; ``benchmarks/example_run.py`` makes it."""

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png")
SIGMA = 25.0
DRAWN = 16
SEEDS = (0, 1)
FOLDER = "showcase"
"""The folder of a showcase, beside that of the run."""


LEARNED = ("learned.webp", "learned.gif")
"""How a student learned: for the page, and to be shown elsewhere."""


def make(run: Path, out: Path, *, quality: int = 88, photographs: Sequence[str] = PICTURES) -> None:
    """Write the pictures of a run, and how its student learned as ``LEARNED``.

    Args:
        run: folder of a finished run.
        out: folder that is written, whole or not at all.
        quality: of the files, at most 100.
        photographs: files of ``kdgen.data.photographs``, for students that change pictures.

    Raises:
        UserError: for a run that is not finished, or whose teacher is not at hand.
    """
    recipe, student = read(run / "recipe.json"), load(run)
    teacher = load(recipe.teacher) if recipe.teacher is not None else None
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        changes = changes_images(student.task)
        made = _photographs(student, teacher, photographs) if changes else _drawings(student, teacher)
    if captions := captions_of(student.net, student.task, DRAWN):
        (partial / CAPTIONS).write_text(json.dumps(captions), encoding="utf-8")
    for (name, side), image in made.items():
        image.save(partial / f"{name}-{side}.webp", "WEBP", quality=quality - 20 * (side == "input"), method=6)
    for name in LEARNED:
        previews.animate(run / "previews", partial / name)
    partial.rename(out)


def _photographs(
    student: Model, teacher: Model | None, photographs: Sequence[str]
) -> dict[tuple[str, str], Image.Image]:
    """Input, teacher and student on photographs that are at hand, in the student's size."""
    found, task = {}, student.task
    sigma = float(task.get("sigma") or SIGMA) if task_class(task).takes_sigma else 0.0
    for file in photographs:
        picture, name = full_size(file), file.partition(".")[0]
        clean, _ = from_picture(picture.convert("L") if student.channels == 1 else picture)
        batch = task_class(task).degrade(clean, task, sigma=sigma, random=generator(0, "compare"))
        nets = {"student": student} if teacher is None else {"teacher": teacher, "student": student}
        outputs = {side: call(AsPictured(model, sigma), batch.x, batch.cond) for side, model in nets.items()}
        size = outputs["student"].shape[-2:]
        for side, image in {"input": batch.x, **outputs}.items():
            if image.shape[-2:] != size:
                image = torch.nn.functional.interpolate(image.float(), size, mode="bicubic", antialias=True)
            found[name, side] = to_pictures(image.clamp(-1, 1))[0].convert("RGB")
    return found


def _drawings(student: Model, teacher: Model | None) -> dict[tuple[str, str], Image.Image]:
    """Sheets of what teacher and student draw from equal latents, asked for the same."""
    nets = {"student": student} if teacher is None else {"teacher": teacher, "student": student}
    captions, asked = captions_of(student.net, student.task, DRAWN), student.task.get("prompts")
    found = {}
    for seed, (side, model) in product(SEEDS, nets.items()):
        drawn = draw(model, DRAWN, seed, None, prompt=asked)
        picture = sheet(tiles(drawn, captions)) if captions else enlarged(drawn)
        found[f"seed {seed}", side] = picture.convert("RGB")
    return found


def main() -> None:
    """Make the showcase of the run in the first argument into the folder in the second."""
    with suppress(UserError):
        make(Path(sys.argv[1]), Path(sys.argv[2]))
