"""What arguments of the command line stand for. Heavy modules are imported when they are needed, to keep help fast."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdgen.models.model import Model
    from kdgen.recipe import Recipe


def register_all(code: Sequence[Path] | None) -> None:
    """Register all that comes with the package, and what the user's own files define."""
    import kdgen.training.registered  # noqa: F401
    from kdgen.types import UserError

    for path in code or ():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UserError(f"--code takes a Python file: there is none at {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        try:
            spec.loader.exec_module(module)
        except UserError:
            raise
        except Exception as error:
            line = next((frame.lineno for frame in reversed(traceback.extract_tb(error.__traceback__))
                         if frame.filename == spec.origin), getattr(error, "lineno", None))  # fmt: skip
            raise UserError(f"--code {path}, line {line}: {type(error).__name__}: {error}") from error


def find_recipe(source: str, *, prompts: Path | None = None) -> "Recipe":
    """The recipe of ``find_recipe_and_teacher`` alone."""
    return find_recipe_and_teacher(source, prompts=prompts)[0]


def find_recipe_and_teacher(
    source: str, *, cheaper: float | None = None, images: Path | None = None, prompts: Path | None = None,
    seconds: float | None = None,
) -> tuple["Recipe", "Model | None"]:  # fmt: skip
    """A recipe from a JSON file, the name of a preset, or a teacher that stands for itself, for which one is inferred.

    Args:
        source: one of these; such a teacher is a file of weights, a declaration, or the folder of a pipeline.
        cheaper: how many times cheaper than that teacher its student is.
        images: folder of images to train that student on.
        prompts: text file of prompts to train it on.
        seconds: how long that student will be trained.

    Returns:
        the recipe; and that teacher where it is open now, a pipeline aside, which the recipe's task opens.
    """
    from kdgen.models.loading import is_pipeline, is_teacher_file
    from kdgen.models.model import load
    from kdgen.presets import preset
    from kdgen.recipe import read
    from kdgen.types import UserError

    path = Path(source)
    if is_teacher_file(path) or is_pipeline(path):
        from kdgen.cli.console import stderr
        from kdgen.models.adapters import known_folder
        from kdgen.report.inferred import SECONDS, recipe_for
        from kdgen.report.inferred_pipeline import changes

        teacher = load(source)
        recipe, student = recipe_for(source, teacher, cheaper=cheaper, images=images, prompts=prompts,
                                     seconds=seconds or SECONDS)  # fmt: skip
        use = changes(student.use, known_folder(path)[0]) if is_pipeline(path) else student.use
        stderr.print(f"{path.name}: {recipe.task}; student {use}, {1 / student.share:.1f} times fewer MACs, "
                     f"{student.num_params:,} parameters", markup=False)  # fmt: skip
        return recipe, None if is_pipeline(path) else teacher
    if cheaper is not None or images is not None or prompts is not None:
        raise UserError("--cheaper, --images and --prompts are for a file of a teacher's weights, its declaration or a "
                        "pipeline's folder; a recipe says these by --set student=..., --set task.args.images=... and "
                        "--set task.args.prompts=...")  # fmt: skip
    return read(path) if path.suffix == ".json" or path.is_file() else preset(source), None


def free_folder(name: str) -> Path:
    """A folder under `runs` that is not there yet: NAME, or NAME with a number."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder
