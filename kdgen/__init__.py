"""kdgen teaches a small, fast image model what a big one knows.

`CONTRIBUTING.md` has the map of its rooms. The public names are loaded when they are first used, so that ``import
kdgen`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdgen.export.formats import export_model as export_model
    from kdgen.hub.push import push_to_hub as push_to_hub
    from kdgen.models.adapters.module import from_module as from_module
    from kdgen.models.model import Model as Model
    from kdgen.models.model import load as load
    from kdgen.presets import preset as preset
    from kdgen.recipe import Recipe as Recipe
    from kdgen.recipe import Stage as Stage
    from kdgen.registry import Spec as Spec
    from kdgen.registry import register as register
    from kdgen.report.evaluation import Evaluation as Evaluation
    from kdgen.report.evaluation import evaluate as evaluate
    from kdgen.report.shift import shift as shift
    from kdgen.training.run import distill as distill
    from kdgen.training.run import resume as resume
    from kdgen.types import Event as Event
    from kdgen.types import UserError as UserError

_HOMES = {
    "Evaluation": "report.evaluation",
    "Event": "types",
    "Model": "models.model",
    "Recipe": "recipe",
    "Stage": "recipe",
    "Spec": "registry",
    "UserError": "types",
    "distill": "training.run",
    "evaluate": "report.evaluation",
    "export_model": "export.formats",
    "from_module": "models.adapters.module",
    "load": "models.model",
    "preset": "presets",
    "push_to_hub": "hub.push",
    "register": "registry",
    "resume": "training.run",
    "shift": "report.shift",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        if _HOMES[name].startswith("models."):
            import kdgen.tasks  # noqa: F401 - registers what models were made for
        return getattr(import_module(f"kdgen.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kdgen' has no attribute {name!r}")
