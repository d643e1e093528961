"""Several teachers as one net: asked, folded, cached and sliced together, each read by the terms that name it."""

from collections.abc import Mapping

from torch import Tensor, nn

from kdgen.types import Net
from kdgen.utils.conditions import call, conditions_of


class Teachers(nn.Module):
    """A main teacher, whose output is that of all, and others by name, whose outputs are read as those of layers.

    Args:
        main: the teacher that students are measured against.
        others: further ones by name, called on the same inputs.
    """

    def __init__(self, main: Net, others: Mapping[str, Net]) -> None:
        super().__init__()
        self.main, self.others = main, nn.ModuleDict(dict(others))
        read = [conditions_of(net) for net in (main, *others.values())]
        self.conditions = None if None in read else frozenset[str]().union(*filter(None, read))

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The main teacher's answer to ``x``, after the others were asked."""
        for other in self.others.values():
            call(other, x, cond)
        return call(self.main, x, cond)


def asked_together(main: Net, others: Mapping[str, Net]) -> Net:
    """A teacher, and the others with it where there are any."""
    return Teachers(main, others) if others else main


def path_of(net: Net, name: str | None) -> str:
    """Where in a net that is asked the teacher of a recipe's name stands, as a dotted path; None names the main one."""
    if name is None:
        return "main" if isinstance(net, Teachers) else ""
    return f"others.{name}"


def is_other(path: str) -> bool:
    """Whether a path as ``path_of`` gives it is of a teacher whose output is not that of all."""
    return path.startswith("others.")


__all__ = ["Teachers", "asked_together", "is_other", "path_of"]
