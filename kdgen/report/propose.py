"""A student of a given cost for a given teacher: the largest net of a family within a share of its MACs.

It reads every condition that the teacher does and has no more parameters. How a net scales is declared beside it, see
``kdgen.models.scaling``; of nets that cost about the same, the one whose width and depth are scaled most alike is taken
(Tan & Le 2019, "EfficientNet", section 3).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch

from kdgen import registry
from kdgen.metrics import cost
from kdgen.models.input_shape import Shaped
from kdgen.models.model import Model
from kdgen.models.resolution import Sizable, draw_as_told
from kdgen.models.scaling import Args, Shapes, families, family_of, scales
from kdgen.models.task_arguments import task_class
from kdgen.models.tiling import whole
from kdgen.registry import Spec, nearest
from kdgen.types import Batch, Net, Task, Text, UserError, text
from kdgen.utils.conditions import call, check_reads, conditions_of
from kdgen.utils.devices import device_of, evaluating

HALVINGS = 10
"""How often the interval of scales is halved in search of the best."""

SMALLEST = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Scales that are tried for the smallest net there is."""

DEVICES = torch.device("meta"), torch.device("cpu")
"""Where nets are tried: their shapes alone tell the cost of most."""

LIGHT = 1e9
"""Multiply-accumulates of a teacher up to which nets are sooner computed than their shapes followed."""

ALIKE = 0.9
"""Nets of at least this share of the most MACs that are allowed and reached cost about the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A student to try.

    Attributes:
        use: the net by name, and its arguments.
        macs: multiply-accumulates of one call on the task's example.
        num_params: number of parameters.
        share: its MACs of an image relative to the teacher's.
    """

    use: Spec
    macs: int
    num_params: int
    share: float


def propose(teacher: Model, task: Task, *, fraction: float, family: str | None = None) -> Proposal:
    """The largest student with at most a fraction of its teacher's MACs of an image, and no more parameters.

    Takes and raises what ``Search`` does, and ``Search.within``.
    """
    if not 0 < fraction < 1:
        raise UserError(text("no_fraction", "a student has a fraction of its teacher's MACs, above 0 and below 1, not "
                             "{fraction:g}", fraction=fraction))  # fmt: skip
    return Search(teacher, task, family).within(fraction)


class Search:
    """Students of a teacher: what it costs is counted once, and what each student that was tried does.

    Args:
        teacher: the model to be cheaper than.
        task: its example is what the cost is counted on.
        family: a net that declares how it scales, or a registered one with ``width``, ``widths`` or ``depth``; by
            default the teacher's own, or the task's usual one for a teacher of none.

    Raises:
        UserError: for a family that is unknown, does not fit the task or does not read what the teacher does, and for a
            teacher whose cost cannot be counted.
    """

    def __init__(self, teacher: Model, task: Task, family: str | None = None) -> None:
        self.teacher, self.example = teacher.name, task.example()
        # of one call: a teacher that draws in more calls than its student allows each of these more
        calls = task.teacher_calls / task.calls
        draw_as_told(teacher.net, task.describe())
        asked = self.example.for_teacher()
        self.allowed = cost.macs(teacher.net, asked.x, asked.cond) * calls
        if not self.allowed:
            raise UserError(text("macs_not_known", "what a call of {name} costs cannot be counted, so that no student "
                                 "can be proposed: name one in a recipe of your own", name=teacher.name))  # fmt: skip
        self.devices = DEVICES if self.allowed > LIGHT else DEVICES[1:]
        self.max_params = cost.num_params(teacher.net)
        self.name, self.start = _start(teacher, _shapes(teacher, task), family)
        self._tried: dict[str, Proposal | None] = {}

    def within(self, fraction: float) -> Proposal:
        """The largest student with at most a fraction of the teacher's MACs of an image, and no more parameters.

        Raises:
            UserError: where the family does not reach the fraction.
        """

        def fits(proposal: Proposal | None) -> bool:
            return proposal is not None and proposal.share <= fraction and proposal.num_params <= self.max_params

        family = family_of(self.name)
        depths = len(list(family.scale(self.start, 1.0)))
        smallest, fitting = list[Proposal](), list[tuple[Proposal, float]]()
        for depth in range(depths):
            at = partial(self._at, depth)
            low, least = next(((size, each) for size in SMALLEST if (each := at(size))), (0.0, None))
            if least is not None:
                smallest.append(least)
            if least is not None and fits(least):
                best, size = _largest(at, fits, low, least, family.largest)
                deep = (depth or depths) / depths  # the first is as deep as what is scaled, the others from 1 on
                fitting.append((best, abs(math.log(max(size, SMALLEST[1]) / deep))))
        if not fitting:
            raise UserError(self._too_large(smallest, fraction))
        most = max(proposal.macs for proposal, _ in fitting)
        alike = [each for each in fitting if each[0].macs >= ALIKE * most]
        return min(alike, key=lambda each: each[1])[0]

    def of(self, use: Spec) -> Proposal | None:
        """What a student would cost; None for one that does not take what the task shows it."""
        if (key := repr(use)) not in self._tried:
            self._tried[key] = _measured(use, self.example, self.allowed, self.devices)
        return self._tried[key]

    def _at(self, depth: int, size: float) -> Proposal | None:
        return self.of(Spec(name=self.name, args=list(family_of(self.name).scale(self.start, size))[depth]))

    def _too_large(self, smallest: Sequence[Proposal], fraction: float) -> Text:
        """Why no net of the family will do."""
        if not smallest:
            return text("no_net_of_any_size", "no {name} of any size takes what the task shows it: name another net",
                        name=self.name)  # fmt: skip
        least = min(smallest, key=lambda proposal: proposal.share)
        if least.share <= fraction:
            return text("smallest_parameters", "the smallest {name} for this has {own:,} parameters and {teacher} has "
                        "{most:,}: ask for another net", name=self.name, own=least.num_params, teacher=self.teacher,
                        most=self.max_params)  # fmt: skip
        return text("smallest_macs", "the smallest {name} for this has {share:g} of the MACs of {teacher}: ask for "
                    "that or more, or for another net", name=self.name, share=math.ceil(1000 * least.share) / 1000,
                    teacher=self.teacher)  # fmt: skip


def _measured(use: Spec, example: Batch, allowed: float, devices: Sequence[torch.device]) -> Proposal | None:
    """A net with its cost as a share of what is allowed; None for arguments that it refuses, too few layers, say."""
    for device in devices:
        try:
            with device:
                net: Net = registry.build("net", use)
            shown = example.to(device)
            if isinstance(net, Sizable):
                net.draw_at(shown.x.shape[-1])
            if not (isinstance(net, Shaped) and net.input_shape and net.input_shape.takes(*shown.x.shape[-2:])):
                with evaluating(net):
                    call(net, shown.x, shown.cond)  # as it is: nothing is continued or cut to a size that it takes
            macs = cost.macs(net, shown.x, shown.cond)
        except (UserError, ValueError, RuntimeError):  # on no device, what asks for a value
            continue
        return Proposal(use=use, macs=macs, num_params=cost.num_params(net), share=macs / allowed)
    return None


def _largest(
    at: Callable[[float], Proposal | None], fits: Callable[[Proposal | None], bool], low: float, best: Proposal,
    largest: float,
) -> tuple[Proposal, float]:  # fmt: skip
    """The largest net within the bounds from one of scale ``low`` on, and its scale: by doubling, then by halving."""
    high = 1.0
    while fits(larger := at(high)):
        assert larger is not None
        best, low = larger, high
        if high == largest:
            return best, low
        high = min(2 * high, largest)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if fits(candidate := at(middle)):
            assert candidate is not None
            best, low = candidate, middle
        else:
            high = middle
    return best, low


def _shapes(teacher: Model, task: Task) -> Shapes:
    example = task.example()
    batch = example.for_teacher().to(device_of(teacher.net))
    with evaluating(teacher.net):
        outputs = tuple(whole(teacher.net, batch.x, batch.cond).shape[1:])
    task_shape = task.answer_shape(example)
    if task_shape is not None and len(task_shape) == len(outputs):  # a larger image is resampled to the task's
        outputs = (outputs[0], *task_shape[1:])
    conditions = task.needs | ((conditions_of(teacher.net) or frozenset()) & example.cond.keys())
    return Shapes(inputs=tuple(example.x.shape[1:]), outputs=outputs, task=task.describe(), conditions=conditions)


def _start(teacher: Model, shapes: Shapes, family: str | None) -> tuple[str, Args]:
    """The family, and its arguments at a scale of 1."""
    if family is not None and not scales(family):
        raise UserError(text("no_such_family", "no net called {name!r} is known to scale{nearest}", name=family,
                             nearest=nearest(family, families())))  # fmt: skip
    same = teacher.use if teacher.use is not None and scales(teacher.use.name) else None
    name = family or (same.name if same else None)
    if same is not None and name == same.name:
        args = {**same.args, **family_of(name).fit(shapes)}
        args = _spelled_out(name, args) if args.get("config") is None else args  # which counts in place of the others
        _check_told(teacher, Spec(name=name, args=args), shapes)
        return name, args
    suited = [key for key, each in families().items() if each.suits(task_class(shapes.task))]
    for key in suited if name is None else [name]:
        args = _spelled_out(key, {**family_of(key).fit(shapes), **family_of(key).fresh(shapes)})
        try:
            _check_told(teacher, Spec(name=key, args=args), shapes)
        except UserError:
            if name is not None:
                raise
        else:
            return key, args
    raise UserError(text("no_net_known", "no net is known that does what {teacher} does: name one of {names:, }",
                         teacher=teacher.name, names=sorted(families())))  # fmt: skip


def _check_told(teacher: Model, use: Spec, shapes: Shapes) -> None:
    """Refuse a net that cannot be, or does not read what its teacher does. Raises UserError."""
    net: Net | None = None
    with suppress(UserError, ValueError, RuntimeError), DEVICES[0]:
        net = registry.build("net", use)
    check_reads(teacher.name, net or registry.build("net", use), shapes.conditions)


def _spelled_out(name: str, args: Args) -> Args:
    return registry.spelled_out("net", Spec(name=name, args=args)).args
