"""kdgen teaches a small, fast image model what a big one knows.

Imports go down this list only, and packages on one line never import each other:

    __main__ · ui
    commands
    arguments · console · files · streams
    tune · plan
    run
    links
    train · compare · step_curve · hub · export
    learner · ahead · best
    card · pictures · curves · checkpoint · loss · optimizers · evaluation · verdict
    report · propose · purpose · usage · journal
    tasks · methods · objectives · ratio · schedule · answers
    metrics · critics · teacher
    model
    loading
    drawing · tiling · quantised
    zoo · adapters · data · devices · parallel · tracking · muon · convert · config · fetch
    diffusion
    presets
    recipe
    taps · cache · checks · distance · schema · references · pixels > registry > types

The public names are loaded when they are first used, so that ``import kdgen`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdgen.adapters.module import from_module as from_module
    from kdgen.evaluation import Evaluation as Evaluation
    from kdgen.evaluation import evaluate as evaluate
    from kdgen.model import Model as Model
    from kdgen.model import load as load
    from kdgen.presets import preset as preset
    from kdgen.recipe import Recipe as Recipe
    from kdgen.recipe import Stage as Stage
    from kdgen.registry import Use as Use
    from kdgen.registry import register as register
    from kdgen.run import distill as distill
    from kdgen.run import resume as resume
    from kdgen.types import Event as Event
    from kdgen.types import UserError as UserError

_HOMES = {
    "Evaluation": "evaluation",
    "Event": "types",
    "Model": "model",
    "Recipe": "recipe",
    "Stage": "recipe",
    "Use": "registry",
    "UserError": "types",
    "distill": "run",
    "evaluate": "evaluation",
    "from_module": "adapters.module",
    "load": "model",
    "preset": "presets",
    "register": "registry",
    "resume": "run",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"kdgen.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kdgen' has no attribute {name!r}")
