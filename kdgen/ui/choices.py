"""From what the page offers to a recipe: kinds of work, presets, teachers, methods; and what a student costs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.hub_cache.ids import MODELS
from kdgen.models.model import Model, build_net
from kdgen.models.scaling import families
from kdgen.models.task_arguments import task_class
from kdgen.presets import preset
from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage, override
from kdgen.registry import Spec
from kdgen.report.propose import propose
from kdgen.types import UserError, text
from kdgen.ui.at_hand import runs_here
from kdgen.ui.shelves import CLASSES, SHELVES
from kdgen.ui.visitors import LARGEST, LARGEST_OTHER, LEAST
from kdgen.utils.cache import short_hash
from kdgen.utils.convert import write_text
from kdgen.utils.schema import Strict

LEAST_STEP = 1e-9
"""What a number that is to be above a bound is above it at least."""

OWN = ("name", "prompts")
"""What a task takes over from no teacher: a model says but some of the prompts that it was taught with."""


def presets_of(kind: str) -> list[str]:
    """Presets of a kind that teach a student, fit a small machine and run with what is at hand."""
    found = []
    for name in registry.names("preset"):
        recipe = preset(name)
        own = task_class({"name": recipe.task.name}).group == kind
        if own and recipe.teacher is not None and recipe.device == "auto" and runs_here(recipe):
            found.append(recipe.name)
    usual = {task.usual_preset for task in CLASSES if task.group == kind}
    return sorted(found, key=lambda name: (name not in usual, name))


KINDS = {kind: tasks for kind, tasks in SHELVES.items() if presets_of(kind)}
"""What can be distilled, and the tasks that belong to it."""

METHODS = {kind: tasks[0].usual_methods for kind, tasks in KINDS.items()}
"""Methods that make sense for each kind, the usual first."""

GROUPS = {
    "training": ("batch_size", "stages.0.optimizer", "stages.0.lr", "stages.0.decay", "stages.0.warmup",
                 "stages.0.weight_decay", "stages.0.clip", "ema"),
    "answers": ("cache.inputs", "cache.share", "cache.augment"),
    "run": ("seed", "precision", "evaluate_every", "checkpoint_every"),
}  # fmt: skip
"""Fields of a recipe that the page shows one by one, in groups; all others are in its JSON."""

ADVANCED = tuple(key for keys in GROUPS.values() for key in keys)

LENGTHS = ("quick", "good", "best")
SHARES_OF_GOOD = {"quick": 0.3, "good": 1.0, "best": 3.0}
"""Lengths of training to choose from, as shares of that of the preset."""

SHARES = {"1/4": 0.25, "1/8": 0.125, "1/16": 0.0625, "1/32": 0.03125}
"""Sizes of students to choose from, as shares of the teacher's multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a recipe as a control.

    Attributes:
        key: dotted.
        kind: ``flag``, ``choice``, ``whole`` or ``number``.
        about: what it means, from the recipe's own documentation.
        options: of a choice.
        low: the least number that it takes.
        high: the largest.
        optional: whether it may be left empty.
    """

    key: str
    kind: Literal["flag", "choice", "whole", "number"]
    about: str
    options: tuple[str, ...] = ()
    low: float = 0.0
    high: float = float(LARGEST_OTHER)
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a net costs: parameters, multiply-accumulates of a call, calls that make an image."""

    num_params: int
    macs: int
    calls: int = 1


def kind_of(task: str) -> str:
    """The kind that a task belongs to; the first for one of no kind."""
    group = task_class({"name": task}).group
    return group if group in KINDS else next(iter(KINDS))


def summary(name: str) -> str:
    """A preset in a sentence."""
    return registry.summary("preset", name.replace("-", "_"))


def families_of(kind: str) -> list[str]:
    """Families of nets that can be scaled to a cost, for a kind."""
    return [name for name, family in families().items() if any(map(family.suits, KINDS[kind]))]


def seconds_of(name: str, most: float) -> dict[str, int]:
    """Seconds of training for each of ``LENGTHS``, by a preset's own and within a bound."""
    good = preset(name).seconds or 100.0
    rounded = {length: max(5 * round(good * share / 5), 5) for length, share in SHARES_OF_GOOD.items()}
    return {length: int(min(seconds, most)) for length, seconds in rounded.items()}


def fields() -> list[Field]:
    """The fields of ``ADVANCED`` as controls."""
    return [_field(key) for key in ADVANCED]


def value_at(recipe: Recipe, key: str) -> Any:
    """What stands under a dotted key."""
    where: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        where = where[int(part)] if isinstance(where, list) else where[part]
    return where


def compose(
    name: str,
    *,
    teacher: str,
    methods: Sequence[str],
    ratio: str,
    alpha: float,
    steps: int | None,
    seconds: float | None,
    settings: Mapping[str, Any],
    student: Spec | None = None,
    described: Mapping[str, Any] | None = None,
    base: Recipe | None = None,
) -> Recipe:
    """A preset with the choices of the page.

    Args:
        name: of the preset.
        teacher: by reference, as visitors write it.
        methods: of every stage that has any; those that it has already keep their arguments.
        ratio: see ``kdgen list ratios``.
        alpha: the ratio itself, or where it begins; at 0 there are no methods.
        steps: length in steps, or None.
        seconds: length in seconds, where there are no steps.
        settings: values by dotted key.
        student: another net than the preset's.
        described: what another teacher says of its task: shapes that the recipe's task takes over.
        base: a recipe of the teacher's own, in place of the preset: of the other arguments those count in which they
            differ from the preset.
    """
    usual = preset(name)
    recipe = base or usual
    task = recipe.task
    if base is None and teacher != recipe.teacher:
        args = _renamed(task.args, str(recipe.teacher).partition("#")[0], teacher.partition("#")[0])
        shapes = {key: value for key, value in (described or {}).items() if key in args and key not in OWN}
        task = Spec(name=task.name, args={**args, **shapes})
    stages = recipe.stages
    if base is None or (list(methods), ratio, alpha) != (methods_of(usual), *ratio_of(usual)):
        stages = tuple(_stage(stage, methods, ratio, alpha) if stage.methods else stage for stage in stages)
    length: dict[str, Any] = {"steps": steps, "seconds": None if steps else seconds}
    recipe = recipe.model_copy(update={"task": task, "teacher": teacher, "stages": stages, **length})
    if student is not None:
        recipe = recipe.model_copy(update={"student": student})
    changed = {key: value for key, value in settings.items() if value_at(usual, key) != value}
    return override(recipe, [f"{key}={json.dumps(value)}" for key, value in changed.items()])


def ratio_of(recipe: Recipe) -> tuple[str, float]:
    """The schedule of a recipe's ratio, and where it begins."""
    ratio = next((stage.ratio for stage in recipe.stages if stage.methods), recipe.stages[0].ratio)
    key = "start" if ratio.name in ("linear", "cosine") else "alpha"
    value = ratio.args.get(key, registry.default("ratio", ratio.name, key))
    return ratio.name, float(value) if isinstance(value, int | float) else 1.0


def methods_of(recipe: Recipe) -> list[str]:
    """The methods of a recipe by name, each once."""
    return list(dict.fromkeys(term.name for stage in recipe.stages for term in stage.methods))


def costs(task: Spec, student: Spec, teacher: Model) -> tuple[Cost, Cost]:
    """What teacher and student cost on a task's example.

    Raises:
        UserError: where they do not fit the task.
    """
    built = registry.build("task", task)
    example = built.example()
    net, _ = build_net(student, built.channels, built.describe())
    try:
        made = [(net, built.calls), (teacher.net, built.teacher_calls)]
        student_cost, teacher_cost = (
            Cost(cost.num_params(each), cost.macs(each, example.x, example.cond), calls) for each, calls in made
        )
    except (RuntimeError, TypeError) as error:
        raise UserError(text("does_not_take", "teacher or student does not take what the task gives: {error}",
                             error=str(error)[:160])) from None  # fmt: skip
    return teacher_cost, student_cost


def propose_for(recipe: Recipe, teacher: Model, fraction: float, family: str | None, cache: Path) -> Spec:
    """The largest student within a fraction of the teacher's multiply-accumulates of a call, in the recipe's task.

    Args:
        recipe: whose task it is.
        teacher: the model to be cheaper than.
        fraction: of its multiply-accumulates.
        family: of the student; the usual one if None.
        cache: folder where what was found before is kept.

    Raises:
        UserError: where there is no such student.
    """
    key = json.dumps([2, recipe.task.model_dump(mode="json"), teacher.fingerprint(), fraction, family])
    path = cache / "proposals" / f"{short_hash(key)}.json"
    with suppress(OSError, ValueError):
        return Spec.model_validate_json(path.read_bytes())
    task = registry.build("task", recipe.task)
    found = propose(teacher, task, fraction=fraction * task.calls / task.teacher_calls, family=family).use
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, found.model_dump_json())
    return found


def _stage(stage: Stage, methods: Iterable[str], ratio: str, alpha: float) -> Stage:
    existing = {term.name: term for term in stage.methods}
    terms = tuple(existing.get(name, Guidance(name=name)) for name in methods) if alpha else ()
    if ratio == stage.ratio.name:
        key = "start" if ratio in ("linear", "cosine") else "alpha"
        args = {**stage.ratio.args, key: alpha}
    else:
        args = {"start": alpha, "end": 0.0} if ratio in ("linear", "cosine") else {"alpha": alpha}
    return stage.model_copy(update={"methods": terms, "ratio": Spec(name=ratio, args=args)})


def _renamed(value: Any, old: str, new: str) -> Any:
    """Arguments of a task with another model wherever they name the old one."""
    if isinstance(value, Mapping):
        named = {key for key, inner in value.items() if key in MODELS and inner == old}
        return {key: new if key in named else _renamed(inner, old, new) for key, inner in value.items()}
    return [_renamed(inner, old, new) for inner in value] if isinstance(value, list) else value


def _field(key: str) -> Field:
    *_, name = key.split(".")
    owners: dict[str, type[Strict]] = {"cache": CacheSpec, "stages": Stage}
    model = owners.get(key.split(".")[0], Recipe) if "." in key else Recipe
    field = model.model_fields[name]
    if field.annotation is bool:
        return Field(key, "flag", field.description or "")
    if get_origin(field.annotation) is Literal:
        return Field(key, "choice", field.description or "", tuple(get_args(field.annotation)))
    bounds: dict[str, float] = {}
    for bound in field.metadata:
        match bound:
            case Ge(value):
                bounds["low"] = float(value)  # type: ignore[arg-type]
            case Gt(value):
                bounds["low"] = float(value) + LEAST_STEP  # type: ignore[arg-type]
            case Le(value):
                bounds["high"] = float(value)  # type: ignore[arg-type]
            case Lt(value):
                bounds["high"] = float(value) - LEAST_STEP  # type: ignore[arg-type]
    bounds["high"] = min(bounds.get("high", math.inf), LARGEST.get(name, LARGEST_OTHER))
    bounds["low"] = max(bounds.get("low", 0.0), LEAST.get(name, 0.0))
    whole = field.annotation is int
    if whole:
        bounds["low"] = float(math.ceil(bounds["low"]))
    optional = type(None) in get_args(field.annotation)
    return Field(key, "whole" if whole else "number", field.description or "", (), bounds["low"], bounds["high"],
                 optional)  # fmt: skip
