"""Several teachers as one net: asked, folded, cached and sliced together, each read by the terms that name it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from kdgen.types import Batch, Net, Task, UserError, text
from kdgen.utils.conditions import call, conditions_of


class Teachers(nn.Module):
    """A main teacher, whose output is that of all, and others by name, whose outputs are read as those of layers.

    Args:
        main: the teacher that students are measured against.
        others: further ones by name, called on the same inputs, or on a view of their own.
        views: what the view of such a one is called in batches, by its name.
    """

    def __init__(self, main: Net, others: Mapping[str, Net], views: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.main, self.others, self.views = main, nn.ModuleDict(dict(others)), dict(views or {})
        read = [conditions_of(net) for net in (main, *others.values())]
        own = frozenset(_told(name) for name in self.views)
        self.conditions = None if None in read else own.union(*filter(None, read))

    def told(self, batch: Batch) -> Mapping[str, Tensor]:
        """What it is told of a batch: the conditions, and what further teachers see where they have views."""
        seen = {_told(name): batch.part_x[view] for name, view in self.views.items() if view in batch.part_x}
        return {**batch.cond, **seen}

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The main teacher's answer to ``x``, after the others were asked; ``cond`` is what ``told`` gives."""
        seen = {name: cond.pop(_told(name), x) for name in self.others}
        for name, other in self.others.items():
            call(other, seen[name], cond)
        return call(self.main, x, cond)


def _told(name: str) -> str:
    return f"view.{name}"


def asked_together(main: Net, others: Mapping[str, Net], views: Mapping[str, str] | None = None) -> Net:
    """A teacher, and the others with it where there are any; ``views`` as for ``Teachers``."""
    return Teachers(main, others, views) if others else main


def told(net: Net, batch: Batch) -> Mapping[str, Tensor]:
    """What a net that is asked as a teacher is told of a batch."""
    return net.told(batch) if isinstance(net, Teachers) else batch.cond


def path_of(net: Net, name: str | None) -> str:
    """Where in a net that is asked the teacher of a recipe's name stands, as a dotted path; None names the main one."""
    if name is None:
        return "main" if isinstance(net, Teachers) else ""
    return f"others.{name}"


def is_other(path: str) -> bool:
    """Whether a path as ``path_of`` gives it is of a teacher whose output is not that of all."""
    return path.startswith("others.")


def part_of(task: Task, teacher: str | None, part: str | None = None) -> str | None:
    """Which part of a task a method is about: the one it names, else that called as its teacher, else the main one.

    None for a task without parts. Raises UserError for a part that the task does not have.
    """
    if part is not None and part not in task.parts:
        raise UserError(text("unknown_part", "a method names the part {name!r}, and the task has {parts:, }: name one "
                             "of these", name=part, parts=list(task.parts)) if task.parts else
                        text("no_parts", "a method names the part {name!r}, and the task has no parts: leave it out",
                             name=part))  # fmt: skip
    if part is not None or not task.parts:
        return part
    return teacher if teacher in task.parts else next(iter(task.parts))


def parts_of_teachers(task: Task, named: Sequence[tuple[str | None, str | None]]) -> dict[str, str]:
    """Which part of a task each further teacher is asked about, by its name.

    Args:
        task: the task.
        named: the teacher and the part that each method names.

    Raises:
        UserError: for a teacher of two parts.
    """
    found: dict[str, str] = {}
    for teacher, part in named:
        about = part_of(task, teacher, part)
        if teacher is None or about is None:
            continue
        if found.setdefault(teacher, about) != about:
            raise UserError(text("teacher_of_two_parts", "the teacher {name} is named for the parts {one} and {other}: "
                                 "give each part a teacher of its own", name=teacher, one=found[teacher],
                                 other=about))  # fmt: skip
    return found


class PartNet(nn.Module):
    """A net of several things as one of one of them: it answers with what its answers say of a part.

    Args:
        net: of the whole task.
        task: that has the part.
        part: its name.
    """

    def __init__(self, net: Net, task: Task, part: str) -> None:
        super().__init__()
        self.net, self.task, self.part = net, task, part
        self.conditions = conditions_of(net)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """What the net's answer to ``x`` says of the part."""
        return self.task.read(self.net(x, **cond), self.part)


@contextmanager
def answering(net: Net, task: Task, part: str | None) -> Iterator[None]:
    """While open, a net answers with what its answers say of a part; its layers keep their paths."""
    if part is None:
        yield
        return
    handle = net.register_forward_hook(lambda module, args, out: task.read(out, part))
    try:
        yield
    finally:
        handle.remove()


__all__ = ["PartNet", "Teachers", "answering", "asked_together", "is_other", "part_of", "parts_of_teachers",
           "path_of", "told"]  # fmt: skip
