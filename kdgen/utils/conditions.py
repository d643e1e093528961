"""Conditions of nets: which of them a net reads, and the one place where those that it does not read are left out."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

from kdgen import registry
from kdgen.types import Net, UserError, text


@runtime_checkable
class Conditioned(Protocol):
    """A net that declares what it reads; None stands for a net that takes whatever it is told and does not say."""

    @property
    def conditions(self) -> frozenset[str] | None:
        """Names, such as ``sigma``, ``label`` and ``until``."""


def conditions_of(net: Net) -> frozenset[str] | None:
    """The conditions that a net reads: those it declares, or else those that its ``forward`` names behind the input.

    None for one that takes any (``**cond``), names none and declares nothing. A wrapper for many devices reads what its
    module does.
    """
    if isinstance(net, Conditioned):
        return net.conditions
    if isinstance(net, DataParallel | DistributedDataParallel):
        return conditions_of(net.module)
    return _named(getattr(net.forward, "__func__", net.forward), inspect.ismethod(net.forward))


def call(net: Net, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    """A net's answer to ``x`` under what a task offers: conditions that the net does not read are left out here.

    What must be read is refused before, by ``check_reads``.

    Args:
        net: any net.
        x: ``(B, ...)``.
        cond: by name, each ``(B, ...)``.
    """
    answer: Tensor = net(x, **read_of(net, cond))
    return answer


def read_of(net: Net, cond: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Of the conditions that a task offers those that a net reads."""
    read = conditions_of(net)
    return cond if read is None else {name: value for name, value in cond.items() if name in read}


def with_maps(cond: Mapping[str, Tensor], x: Tensor, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Conditions of inputs ``x`` of which those that are maps as large as these are cut or continued as these are."""
    return {name: change(value) if is_map(value, x) else value for name, value in cond.items()}


def is_map(condition: Tensor, x: Tensor) -> bool:
    """Whether a condition says something of each pixel of ``x``."""
    return condition.ndim > 2 and condition.shape[-2:] == x.shape[-2:]


def check_reads(caller: str, net: Net, names: Iterable[str]) -> None:
    """Refuse a net that does not read what it has to.

    Args:
        caller: what tells the net these conditions, e.g. ``mean_flow with until``.
        net: the net.
        names: of the conditions.

    Raises:
        UserError: naming the net, the condition, and nets that read it.
    """
    read, called = conditions_of(net), type(net).__name__
    for name in sorted(names):
        if read is None:
            raise UserError(text("reads_unsaid", "{caller} tells a net {name!r}, and {called} takes any condition "
                                 "without saying which it reads: declare `conditions = frozenset({{{name!r}}})` on it",
                                 caller=caller, name=name, called=called))  # fmt: skip
        if name not in read:
            able = nets_reading(name) or [text("none_registered", "none that is registered")]
            raise UserError(text("net_does_not_read", "{caller} tells a net {name!r}, which this {called} does not "
                                 "read; nets that can: {able:, }", caller=caller, name=name, called=called,
                                 able=able))  # fmt: skip


def check_told(model: str, net: Net, name: str) -> None:
    """Refuse what a user says beside an image to a model that is not told it.

    Args:
        model: what it is called.
        net: its net.
        name: of the condition, as the user knows it: ``mask`` or ``stops``.

    Raises:
        UserError: naming the model, and nets that can be told.
    """
    read = conditions_of(net)
    if read is None:
        raise UserError(text("told_unsaid", "{model} does not say whether it takes {name}: if it does, declare "
                             "`conditions = frozenset({{{name!r}}})` on its net, else leave {name} out", model=model,
                             name=name))  # fmt: skip
    if name not in read:
        able = nets_reading(name) or [text("none_registered", "none that is registered")]
        raise UserError(text("takes_no", "{model} takes no {name}: leave it out, or name a model that was trained "
                             "with it (nets that can be: {able:, })", model=model, name=name, able=able))  # fmt: skip


def check_conditions(net: Conditioned, **cond: Tensor | None) -> None:
    """Refuse, in a net whose arguments settle what it reads, a condition that it does not: None stands for untold.

    Raises:
        UserError: naming the condition.
    """
    for name, value in cond.items():
        if value is not None and name not in (net.conditions or ()):
            raise UserError(text("does_not_read", "this {type} does not read {name!r}: leave it out",
                                 type=type(net).__name__, name=name))  # fmt: skip


def nets_reading(name: str) -> list[str]:
    """The registered nets whose ``forward`` names a condition, with the argument that makes them read it, if so called.

    What a net's function is annotated to return tells its class.
    """
    found = []
    for key in registry.names("net"):
        kind = registry.gives("net", key)
        if kind is not None and issubclass(kind, Net) and name in (_named(kind.forward, bound=True) or ()):
            found.append(f"{key} with {name}" if registry.accepts("net", key, name) else key)
    return found


@cache
def _named(forward: Callable[..., Any], bound: bool) -> frozenset[str] | None:
    parameters = list(inspect.signature(forward).parameters.values())[2 if bound else 1 :]
    named = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return named if named or all(p.kind is not p.VAR_KEYWORD for p in parameters) else None
