"""A net as a graph: which conditions it reads, which of its sizes are free, and the program that torch.export makes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from kdgen.devices import evaluating
from kdgen.export.inputs import conditions
from kdgen.types import Batch, Net, UserError

MULTIPLES = (1, 2, 4, 8, 16, 32)
"""What heights and widths are tried as multiples of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How an exported net is called.

    Attributes:
        conditions: names of its inputs behind ``x``, each ``(B,)``.
        shape: of one ``x``, without the batch.
        multiple: any height and width that is a multiple of this is taken; None where both are fixed.
        largest_batch: None where there is no bound.
    """

    conditions: tuple[str, ...]
    shape: tuple[int, ...]
    multiple: int | None
    largest_batch: int | None = None

    @property
    def inputs(self) -> dict[str, list[str | int]]:
        """The shape of every input, with a word where it is free."""
        free = {1: ["height", "width"]}.get(self.multiple or 0, [f"{self.multiple}*height", f"{self.multiple}*width"])
        rest: list[str | int] = [*self.shape] if self.multiple is None else [self.shape[0], *free]
        batch = "batch" if self.largest_batch is None else f"batch, up to {self.largest_batch}"
        return {"x": [batch, *rest], **{name: [batch] for name in self.conditions}}


class Positional(nn.Module):
    """A net whose conditions are arguments by position, which a graph's inputs are."""

    def __init__(self, net: Net, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.names = net, names

    def forward(self, x: Tensor, *cond: Tensor) -> Tensor:
        """The net's answer to ``x`` under its conditions."""
        out: Tensor = self.net(x, **dict(zip(self.names, cond, strict=True)))
        return out


def signature(net: Net, example: Batch) -> Signature:
    """How a net can be called, found by calling it.

    Raises:
        UserError: if it does not take the example.
    """
    with evaluating(net):
        try:
            whole = net(example.x, **example.cond)
        except (RuntimeError, TypeError, UserError) as error:
            raise UserError(f"the net does not take what its task shows it, {tuple(example.x.shape)}: name the task of "
                            f"the model with --recipe ({str(error).splitlines()[0]})") from None  # fmt: skip
        names = tuple(name for name in example.cond if _reads(net, example, name, whole))
    shape = tuple(example.x.shape[1:])
    return Signature(conditions=names, shape=shape, multiple=_multiple(net, example, names))


def _reads(net: Net, example: Batch, name: str, whole: Tensor) -> bool:
    """Whether a net's answer depends on being told a condition."""
    rest = {key: value for key, value in example.cond.items() if key != name}
    try:
        return not torch.equal(net(example.x, **rest), whole)
    except (RuntimeError, TypeError, UserError):
        return True


def _multiple(net: Net, example: Batch, names: tuple[str, ...]) -> int | None:
    """The least number whose odd multiples a net takes as height and width."""
    if example.x.ndim != 4:
        return None
    cond = {name: example.cond[name].expand(1) for name in names}
    with evaluating(net):
        for multiple in MULTIPLES:
            x = torch.zeros(1, example.x.shape[1], 5 * multiple, 7 * multiple)
            try:
                net(x, **cond)
            except (RuntimeError, ValueError, IndexError):
                continue
            return multiple
    return None


def program(net: Net, example: Batch, called: Signature) -> tuple[ExportedProgram, Signature]:
    """The net as a program of torch.export with a free batch size, and free height and width where it can.

    Returns:
        the program, and how it can be called: as asked, or with less freedom where torch finds that some is missing.

    Raises:
        UserError: if torch cannot trace it.
    """
    x = example.x[:1] if called.multiple is None else example.x[:1, :, : 5 * called.multiple, : 7 * called.multiple]
    two = Batch(x=torch.cat([x, x]), cond={key: torch.cat([value[:1]] * 2) for key, value in example.cond.items()})
    fixed = replace(called, multiple=None)
    tries = [(called, Dim("batch", min=1)), (called, Dim.AUTO), (fixed, Dim.AUTO)]
    for asked, batch in tries if called.multiple is not None else tries[1:]:
        given = (
            two if asked.multiple is not None else Batch(x=example.x[:1].repeat(2, *[1] * (x.ndim - 1)), cond=two.cond)
        )
        try:
            made = _traced(net, given, asked, batch)
        except Exception as error:  # tracing runs all of a foreign net's code, and raises whatever that does
            failure = _first(error)
            continue
        for node in made.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        return made, replace(asked, largest_batch=_largest_batch(made))
    raise UserError(f"torch cannot trace the net ({failure}): write its forward without branches on sizes or values")


def _traced(net: Net, example: Batch, called: Signature, batch: Any) -> ExportedProgram:
    free = {0: batch}
    if called.multiple is not None:
        free |= {2: called.multiple * Dim("height", min=1), 3: called.multiple * Dim("width", min=1)}
    told = tuple({0: batch} for _ in called.conditions)
    wrapped, given = Positional(net, called.conditions).eval(), conditions(example, called.conditions)
    with quiet(), torch.no_grad(), _untold():  # no size is told by the example's
        return torch.export.export(wrapped, given, dynamic_shapes=(free, *([told] if told else [])), strict=False,
                                   prefer_deferred_runtime_asserts_over_guards=True)  # fmt: skip


def _largest_batch(made: ExportedProgram) -> int | None:
    """The largest batch a program takes, None where there is no bound."""
    x = next(node for node in made.graph.nodes if node.name == made.graph_signature.user_inputs[0])
    size = x.meta["val"].shape[0]
    if isinstance(size, int):
        return size
    upper = made.range_constraints[size.node.expr].upper
    return int(upper) if upper.is_Integer else None


def _untold() -> AbstractContextManager[None]:
    patch: Any = symbolic.patch  # type: ignore[attr-defined]
    patched: AbstractContextManager[None] = patch(backed_size_oblivious=True)
    return patched


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the exporters', which are about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
