"""A student of a given cost for a given teacher: the largest net of a family within a share of its MACs.

It reads every condition that the teacher does and has no more parameters. How a family scales stands in ``families``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.model import Model
from kdgen.models.scaling import FAMILIES, Args, Shapes, scales
from kdgen.models.scaling import family as known_family
from kdgen.models.task_arguments import task_class
from kdgen.registry import Spec, nearest
from kdgen.types import Batch, Net, Task, UserError
from kdgen.utils.conditions import call, check_reads, conditions_of
from kdgen.utils.devices import device_of, evaluating

HALVINGS = 10
"""How often the interval of scales is halved in search of the best."""

SMALLEST = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Scales that are tried for the smallest net there is."""

LARGEST = 64.0
"""Largest scale, relative to the arguments that the search starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A student to try.

    Attributes:
        use: the net by name, and its arguments.
        macs: multiply-accumulates of one call on the task's example.
        num_params: number of parameters.
        share: its MACs relative to the teacher's.
    """

    use: Spec
    macs: int
    num_params: int
    share: float


def propose(teacher: Model, task: Task, *, fraction: float, family: str | None = None) -> Proposal:
    """The largest student with at most a fraction of its teacher's multiply-accumulates, and no more parameters.

    Args:
        teacher: the model to be cheaper than.
        task: its example is what the cost is counted on.
        fraction: of the teacher's MACs, above 0 and below 1.
        family: a net of ``FAMILIES``, or a registered one with ``width``, ``widths`` or ``depth``; by default the
            teacher's own, or the task's usual one for a teacher of none.

    Raises:
        UserError: for a fraction that is none or that the family does not reach, and for a family that is unknown, does
            not fit the task or does not read what the teacher does.
    """
    if not 0 < fraction < 1:
        raise UserError(f"a student has a fraction of its teacher's MACs, above 0 and below 1, not {fraction:g}")
    example = task.example()
    whole, most = cost.macs(teacher.net, example.x, example.cond), cost.num_params(teacher.net)
    name, start = _start(teacher, _shapes(teacher, task), family)
    scaled = known_family(name).scale
    known: dict[str, Proposal | None] = {}

    def at(depth: int, size: float) -> Proposal | None:
        use = Spec(name=name, args=list(scaled(start, size))[depth])
        if (key := repr(use)) not in known:
            known[key] = _made(use, example, whole)
        return known[key]

    def fits(proposal: Proposal | None) -> bool:
        return proposal is not None and proposal.share <= fraction and proposal.num_params <= most

    smallest, found = list[Proposal](), list[Proposal]()
    for depth in range(len(list(scaled(start, 1.0)))):
        low, least = next(((size, made) for size in SMALLEST if (made := at(depth, size))), (0.0, None))
        if least is not None:
            smallest.append(least)
            found += [_largest(partial(at, depth), fits, low, least)] if fits(least) else []
    if found:
        return max(found, key=lambda proposal: proposal.macs)
    if not smallest:
        raise UserError(f"no {name} of any size takes what the task shows it: name another net")
    least = min(smallest, key=lambda proposal: proposal.share)
    if least.share <= fraction:
        raise UserError(f"the smallest {name} for this has {least.num_params:,} parameters and {teacher.name} has "
                        f"{most:,}: ask for another net")  # fmt: skip
    reached = math.ceil(1000 * least.share) / 1000
    raise UserError(f"the smallest {name} for this has {reached:g} of the MACs of {teacher.name}: ask for that or "
                    "more, or for another net")  # fmt: skip


def _made(use: Spec, example: Batch, whole: int) -> Proposal | None:
    """A net with its cost as a share of ``whole``; None for arguments that it refuses, too few layers, say."""
    try:
        net: Net = registry.build("net", use)
        with evaluating(net):
            call(net, example.x, example.cond)  # as it is: nothing is continued or cut to a size that it takes
        macs = cost.macs(net, example.x, example.cond)
    except (UserError, ValueError, RuntimeError):
        return None
    return Proposal(use=use, macs=macs, num_params=cost.num_params(net), share=macs / whole)


def _largest(
    at: Callable[[float], Proposal | None], fits: Callable[[Proposal | None], bool], low: float, best: Proposal
) -> Proposal:
    """The largest net within the bounds from one of scale ``low`` on: by doubling, then by halving the interval."""
    high = 1.0
    while high <= LARGEST and fits(larger := at(high)):
        assert larger is not None
        best, low, high = larger, high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if fits(candidate := at(middle)):
            assert candidate is not None
            best, low = candidate, middle
        else:
            high = middle
    return best


def _shapes(teacher: Model, task: Task) -> Shapes:
    example, where = task.example(), device_of(teacher.net)
    batch = example.to(where)
    with evaluating(teacher.net):
        gives = tuple(call(teacher.net, batch.x, batch.cond).shape[1:])
    said: Mapping[str, Any] = task.describe()
    wanted = task.answer_shape(example)
    if wanted is not None and len(wanted) == len(gives):  # a teacher's larger image is resampled to the task's
        gives = (gives[0], *wanted[1:])
    told = task.needs | ((conditions_of(teacher.net) or frozenset()) & example.cond.keys())
    return Shapes(reads=tuple(example.x.shape[1:]), gives=gives, task=said, told=told)


def _start(teacher: Model, shapes: Shapes, family: str | None) -> tuple[str, Args]:
    """The family, and its arguments at a scale of 1."""
    own = teacher.use.name if teacher.use is not None and scales(teacher.use.name) else None
    if family is not None and not scales(family):
        raise UserError(f"no net called {family!r} is known to scale{nearest(family, FAMILIES)}")
    name = family or own
    if name is not None and name == own and teacher.use is not None:
        args = _spelled_out(name, {**teacher.use.args, **known_family(name).fit(shapes)})
        check_reads(teacher.name, registry.build("net", Spec(name=name, args=args)), shapes.told)
        return name, args
    known = [key for key, each in FAMILIES.items() if each.suits(task_class(shapes.task))]
    for key in known if name is None else [name]:
        args = _spelled_out(key, {**known_family(key).fit(shapes), **known_family(key).fresh(shapes)})
        try:
            check_reads(teacher.name, registry.build("net", Spec(name=key, args=args)), shapes.told)
        except UserError:
            if name is not None:
                raise
        else:
            return key, args
    raise UserError(f"no net is known that does what {teacher.name} does: name one of {', '.join(sorted(FAMILIES))}")


def _spelled_out(name: str, args: Args) -> Args:
    return registry.spelled_out("net", Spec(name=name, args=args)).args
