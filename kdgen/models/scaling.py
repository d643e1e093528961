"""How nets are made to fit a task and scaled to a cost: declared beside each net, or by the width of a user's own."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kdgen import registry
from kdgen.types import Task

Args = dict[str, Any]
T = TypeVar("T", bound=Callable[..., Any])

SIZES = ("width", "widths", "depth")
"""Arguments by which a net of the user's own scales: the first that it has, at every depth up to what is given."""

START = {"width": 32, "widths": [32, 64], "depth": 8}
"""What they are at a scale of 1 where such a net has no default."""

SETTLED = ("latent", "size", "channels", "num_classes")
"""Arguments of such a net that the task settles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a student must fit.

    Attributes:
        inputs: shape of one input, ``(C, H, W)`` of an image or ``(Z, ...)`` of a latent.
        outputs: shape of one output of the teacher.
        task: what the task says of itself.
        conditions: those that the student reads.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    task: Mapping[str, Any]
    conditions: frozenset[str] = frozenset()

    def classes(self, key: str) -> Args:
        """The argument ``key``, a number of classes, where the student is conditional on the class."""
        return {key: self.task.get("num_classes", 0)} if "label" in self.conditions else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a net is made to fit a task, and to a size.

    Attributes:
        scale: the arguments at a scale of 0 (the smallest net) or more, 1 for those given; one dict for each depth
            the net may have, and as many at every scale. Its MACs never fall as the scale rises.
        fit: arguments that the shapes settle.
        fresh: further ones for a teacher of another family, whose own arguments say nothing.
        largest: scale that is tried; 1 where a student is no wider than what it starts from.
        does: attributes of the tasks for which it is proposed to teachers of no family of their own; the first family
            that fits is taken, in the order of registration. Empty where it is not.
    """

    scale: Callable[[Args, float], Iterable[Args]]
    fit: Callable[[Shapes], Args]
    fresh: Callable[[Shapes], Args] = lambda shapes: {}
    largest: float = 64.0
    does: Mapping[str, Any] = field(default_factory=dict)

    def suits(self, task: type[Task]) -> bool:
        """Whether it is proposed for a task of this class."""
        return bool(self.does) and all(getattr(task, key) == value for key, value in self.does.items())


_declared: dict[Callable[..., Any], Family] = {}


def scaled(family: Family) -> Callable[[T], T]:
    """A decorator that declares how a net scales, below the one that registers it."""

    def decorate(net: T) -> T:
        _declared[net] = family
        return net

    return decorate


def families() -> dict[str, Family]:
    """The declared families by the names of their nets, in the order of registration."""
    return {name: family for name in registry.having("net") if (family := _family(name)) is not None}


def _family(name: str) -> Family | None:
    return _declared.get(inspect.unwrap(registry.get("net", name)))


def scales(name: str) -> bool:
    """Whether a net of this name scales, as declared or by its width or depth."""
    known = name in registry.names("net")
    return known and (_family(name) is not None or any(registry.accepts("net", name, key) for key in SIZES))


def family_of(name: str) -> Family:
    """How a net scales: as declared, or one of the user's own by its width and its depth."""
    if (declared := _family(name)) is not None:
        return declared
    sizes = [key for key in SIZES if registry.accepts("net", name, key)]
    missing = {key: START[key] for key in sizes if registry.default("net", name, key) is None}

    def fit(shapes: Shapes) -> Args:
        facts = {
            "latent": math.prod(shapes.inputs),
            "size": shapes.outputs[-1],
            "channels": shapes.outputs[0],
            **shapes.task,
        }
        return registry.accepted("net", name, {key: facts[key] for key in SETTLED if key in facts})

    depth = "depth" if len(sizes) > 1 and "depth" in sizes else None
    return Family(scale=scale_widths(sizes[0], depth), fit=fit, fresh=lambda shapes: missing)


def scaled_width(value: Any, scale: float, multiple: int = 1) -> Any:
    """A width or a list of them, scaled to multiples of a number and at least that."""
    if isinstance(value, Sequence):
        return [scaled_width(each, scale, multiple) for each in value]
    return max(round(value * scale / multiple), 1) * multiple


def scale_widths(key: str, depth: str | None = None) -> Callable[[Args, float], Iterator[Args]]:
    """The ``scale`` of a family: of a width or widths, for every depth from what is given down to 1."""

    def scale(args: Args, scale: float) -> Iterator[Args]:
        wide = {**args, key: scaled_width(args[key], scale)}
        yield wide
        if depth is not None:
            for number in range(1, args[depth]):
                yield {**wide, depth: number}

    return scale


def changed(args: Args, changes: Args) -> Args:
    """Arguments with changes, within ``config`` for a net of which that counts in place of the others."""
    return {**args, **changes} if args.get("config") is None else {**args, "config": {**args["config"], **changes}}


def fit_channels(shapes: Shapes) -> Args:
    """The ``fit`` of a net that reads images of any size."""
    return {"channels": shapes.inputs[0]}


def fit_enlarging(shapes: Shapes) -> Args:
    """The ``fit`` of a net that reads images of any size and makes them larger."""
    return {"channels": shapes.outputs[0], "scale": max(shapes.outputs[-1] // shapes.inputs[-1], 1)}


def fit_images(shapes: Shapes) -> Args:
    """The ``fit`` of a net that reads images of one size."""
    return {"channels": shapes.inputs[0], "size": shapes.inputs[-1]}
