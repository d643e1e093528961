"""A net as a graph: which conditions it reads, which of its sizes are free, and the program that torch.export makes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from kdgen.export.inputs import at_size, conditions
from kdgen.models.input_shape import InputShape, error_line, input_shape
from kdgen.types import Batch, Net, UserError, text
from kdgen.utils.conditions import call, is_map
from kdgen.utils.devices import evaluating


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How an exported net is called.

    Attributes:
        conditions: names of its inputs behind ``x``, each ``(B,)``.
        shape: of one ``x``, without the batch.
        sizes: the heights and widths that are taken; None for inputs that have none.
        largest_batch: None where there is no bound; 1 where the batch is fixed.
    """

    conditions: tuple[str, ...]
    shape: tuple[int, ...]
    sizes: InputShape | None
    largest_batch: int | None = None

    @property
    def free(self) -> bool:
        """Whether height and width are free."""
        return self.sizes is not None and self.sizes.fixed is None

    @property
    def inputs(self) -> dict[str, list[str | int]]:
        """The shape of every input, with a word where it is free."""
        batch: str | int = "batch" if self.largest_batch is None else f"batch, up to {self.largest_batch}"
        batch = 1 if self.largest_batch == 1 else batch
        rest: list[str | int] = [*self.shape]
        if self.free and self.sizes is not None:
            times = "" if self.sizes.multiple == 1 else f"{self.sizes.multiple}*"
            least = "" if self.sizes.min_size <= self.sizes.multiple else f", {self.sizes.min_size} or more"
            rest[1:] = [f"{times}height{least}", f"{times}width{least}"]
        return {"x": [batch, *rest], **{name: [batch] for name in self.conditions}}

    def fixed_at(self, *size: int) -> "Signature":
        """The same with one height and width."""
        return replace(self, sizes=None if self.sizes is None else InputShape(fixed=(size[0], size[1])))


def without_bound(called: Signature) -> Signature:
    """The same where the bound of torch's program on its batch does not hold, as in ONNX; a fixed one does."""
    return called if called.largest_batch == 1 else replace(called, largest_batch=None)


class Positional(nn.Module):
    """A net whose conditions are arguments by position, which a graph's inputs are."""

    def __init__(self, net: Net, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.names = net, names

    def forward(self, x: Tensor, *cond: Tensor) -> Tensor:
        """The net's answer to ``x`` under its conditions."""
        out: Tensor = self.net(x, **dict(zip(self.names, cond, strict=True)))
        return out


def signature(net: Net, example: Batch) -> tuple[Signature, Batch]:
    """How a net can be called, found by calling it, and the example as near its own size as the net takes.

    Raises:
        UserError: if it does not take the example at any size.
    """
    with evaluating(net):
        try:
            if example.x.ndim == 4:
                size = input_shape(net, example.x, example.cond).at_least(*example.x.shape[-2:])
                example = at_size(example, *size)
            out = call(net, example.x, example.cond)
        except (RuntimeError, TypeError, KeyError, UserError) as error:
            raise UserError(text("export_input", "the net does not take what its task shows it, {shape}: name the "
                                 "task of the model with --recipe ({error})", shape=str(tuple(example.x.shape)),
                                 error=str(error).splitlines()[0])) from None  # fmt: skip
        names = tuple(name for name in example.cond if _reads(net, example, name, out))
    cond = {name: example.cond[name] for name in names}
    sizes = input_shape(net, example.x, cond) if example.x.ndim == 4 else None
    return Signature(conditions=names, shape=tuple(example.x.shape[1:]), sizes=sizes), example


def _reads(net: Net, example: Batch, name: str, out: Tensor) -> bool:
    """Whether a net's answer depends on being told a condition."""
    rest = {key: value for key, value in example.cond.items() if key != name}
    try:
        return not torch.equal(call(net, example.x, rest), out)
    except Exception:  # one that is not told what it needs raises whatever its code does
        return True


def program(net: Net, example: Batch, called: Signature) -> tuple[ExportedProgram, Signature]:
    """The net as a program of torch.export with a free batch size, and free height and width where it can.

    Returns:
        the program, and how it can be called: as asked, or with less freedom where torch finds that some is missing. A
        batch that the net's code fixes is one of 1.

    Raises:
        UserError: if torch cannot trace it.
    """
    fixed = called.fixed_at(*example.x.shape[-2:])
    signatures = [called, fixed] if called.free else [fixed]
    several = Dim("batch", min=1)
    free: list[tuple[Any, dict[str, bool]]] = [(several, {}), (Dim.AUTO, {}), (Dim.AUTO, {"strict": True})]
    ways = [*product(signatures, free), (fixed, (several, {"plain": True})), *((one, (None, {})) for one in signatures)]
    failure: str = ""
    for one, (batch, how) in ways:
        try:
            made = _traced(net, example, one, batch, **how)
            least, most = _batches(made)
        except Exception as error:  # tracing runs all of a foreign net's code, and raises whatever that does
            failure = error_line(error)
            continue
        if batch is not None and least == most:  # as code that asks for len(x) burns it in
            continue
        if batch is not None and least <= 1 and not _takes_one(made, example, one):
            failure = text("traced_for_several", "what torch makes of it takes no batch of 1")
            continue
        if one.free and not _holds(made, net, example, one, count=1 if batch is None else min(3, most or 3)):
            failure = text("traced_otherwise", "what torch makes of it gives something else at other sizes")
            continue
        for node in made.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        return made, replace(one, largest_batch=most)
    raise UserError(text("no_trace", "torch cannot trace the net ({error}): write its forward without branches on "
                         "sizes or values", error=failure))  # fmt: skip


def _traced(
    net: Net, example: Batch, called: Signature, batch: Any, *, strict: bool = False, plain: bool = False
) -> ExportedProgram:
    """The program with such a batch, None for a fixed one of 1.

    ``strict`` reads the code rather than running it; ``plain`` is as torch does by default: what the code compares of
    sizes is settled in tracing, by those of the example, and not left for the program to find out.
    """
    free: dict[int, Any] = {} if batch is None else {0: batch}
    dims = dict.fromkeys(called.conditions, free)
    if called.free and called.sizes is not None:
        multiple, least = called.sizes.multiple, called.sizes.min_size // called.sizes.multiple
        large = {2: multiple * Dim("height", min=least), 3: multiple * Dim("width", min=least)}
        dims |= {name: free | large for name in dims if is_map(example.cond[name], example.x)}
        example = at_size(example, *(max(side, least | 1) * multiple for side in (5, 7)))
        free = free | large
    count = 1 if batch is None else 2
    args = tuple(torch.cat([each[:1]] * count) for each in conditions(example, called.conditions))
    told = tuple(dims[name] for name in called.conditions)
    wrapped = Positional(net, called.conditions).eval()
    with quiet(), torch.no_grad(), nullcontext() if plain else _size_oblivious():  # no size is the example's
        return torch.export.export(wrapped, args, dynamic_shapes=(free, *([told] if told else [])), strict=strict,
                                   prefer_deferred_runtime_asserts_over_guards=not plain)  # fmt: skip


@torch.no_grad()
def _takes_one(made: ExportedProgram, example: Batch, called: Signature) -> bool:
    """Whether a program that was traced with two images takes one of the same size."""
    x, *told = (each[:1] for each in conditions(example, called.conditions))
    try:
        made.module()(x, *told)
    except Exception:  # a comparison of sizes that was left for the program to find out
        return False
    return True


@torch.no_grad()
def _holds(made: ExportedProgram, net: Net, example: Batch, called: Signature, *, count: int) -> bool:
    """Whether a program answers as its net does at a size that it was not traced at."""
    assert called.sizes is not None
    multiple, least = called.sizes.multiple, called.sizes.min_size // called.sizes.multiple
    one = at_size(example, *(max(side, least) * multiple for side in (8, 6)))
    x, *told = (torch.cat([each[:1]] * count) for each in conditions(one, called.conditions))
    cond = dict(zip(called.conditions, told, strict=True))
    try:
        out = made.module()(x, *told)
    except Exception:  # a bound that torch saw and that holds only at the size it was traced at
        return False
    with evaluating(net):
        exact = call(net, x, cond)
    return bool((out - exact).abs().max() <= 1e-3 * exact.abs().max())


def _batches(made: ExportedProgram) -> tuple[int, int | None]:
    """The smallest and the largest batch that a program takes, None where there is no bound."""
    x = next(node for node in made.graph.nodes if node.name == made.graph_signature.user_inputs[0])
    size = x.meta["val"].shape[0]
    if isinstance(size, int):
        return size, size
    bounds = made.range_constraints[size.node.expr]
    return int(bounds.lower), int(bounds.upper) if bounds.upper.is_Integer else None


def _size_oblivious() -> AbstractContextManager[None]:
    patch: Any = symbolic.patch  # type: ignore[attr-defined]
    patched: AbstractContextManager[None] = patch(backed_size_oblivious=True)
    return patched


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the exporters', which are about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
