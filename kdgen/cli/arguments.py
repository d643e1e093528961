"""What arguments of the command line stand for. Heavy modules are imported when they are needed, to keep help fast."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def find_recipe(source: str) -> "Recipe":
    """A recipe from a JSON file or the name of a preset."""
    from kdgen.presets import preset
    from kdgen.recipe import read

    path = Path(source)
    return read(path) if path.suffix == ".json" or path.is_file() else preset(source)


def free_folder(name: str) -> Path:
    """A folder under `runs` that is not there yet: NAME, or NAME with a number."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder
