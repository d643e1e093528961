"""What arguments of the command line stand for. Heavy modules are imported when they are needed, to keep help fast."""

import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdgen.model import Model
    from kdgen.recipe import Recipe


def register_all(code: Sequence[Path] | None) -> None:
    """Register all that comes with the package, and what the user's own files define."""
    from kdgen import adapters, data, methods, objectives, presets, ratio, tasks, zoo  # noqa: F401
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


def measuring_task(
    models: Mapping[str, "Model"], data: Path | None, sigma: float | None = None, name: str | None = None
) -> tuple[str, Any]:
    """The task that measures these models, in words and built: what the first of them was made for unless ``name``."""
    first = next(iter(models.values()))
    made_for = "few_steps" if "sampler" in first.task else str(first.task.get("name", "denoise"))
    name = name or made_for
    if name == "denoise":
        return _denoising(models, data, sigma)
    from kdgen import registry
    from kdgen.registry import Use
    from kdgen.types import UserError

    if sigma is not None:
        raise UserError(f"--sigma is for denoisers, and {first.name} was made to {name}: leave it out")
    told = {"patch": first.task["size"], **first.task} if "size" in first.task else first.task
    known = {key: value for key, value in told.items() if key != "name" and registry.accepts("task", name, key)}
    use = Use(name=name, args=known)
    given: dict[str, Any] = {}
    if data is not None and registry.accepts("task", name, "evaluate"):
        given = {"evaluate": _images(data)}
    elif data is not None:
        given = {"images": _images(data, whole=True)}
        given |= {"data": True} if registry.accepts("task", name, "data") else {}
    return f"{use} on {data}" if data else str(use), registry.build("task", Use(name=name, args={**known, **given}))


def _images(data: Path, **more: Any) -> dict[str, Any]:
    """The source of images in a folder, or in a file in the IDX format of MNIST."""
    if data.is_file():
        return {"name": "idx", "args": {"images": str(data)}}
    return {"name": "folder", "args": {"path": str(data), **more}}


def _denoising(models: Mapping[str, "Model"], data: Path | None, sigma: float | None) -> tuple[str, Any]:
    from kdgen import registry
    from kdgen.data import make_images
    from kdgen.registry import Use
    from kdgen.types import UserError

    channels = {model.channels for model in models.values() if model.task.get("channels") != "both"}
    if len(channels) > 1:
        raise UserError("grey and colour models cannot be compared on the same images: compare them apart")
    gallery = {"name": "photographs"} if data is None else {"name": "folder", "args": {"path": str(data)}}
    if not channels:
        channels = {1 if data is not None and make_images(gallery).picture(0).ndim == 2 else 3}
    made_for = next(iter(models.values())).task.get("sigma", 25)
    args = {"sigma": made_for if sigma is None else sigma, "channels": channels.pop()}
    words = f"{Use(name='denoise', args=args)} on {data or 'the bundled photographs'}"
    return words, registry.build("task", Use(name="denoise", args={**args, "evaluate": gallery}))
