"""The nets that are to do a task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdgen.models.task_arguments import task_class
from kdgen.registry import Spec
from kdgen.types import Net


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A net that is to do a task.

    Attributes:
        called: what it is in words, ``the teacher gan``.
        net: the net.
        made_for: the task that it says it was made for, empty where it says nothing.
        key: where a recipe names it, ``teacher``; None for a net that no recipe names.
        use: how it is built, where a recipe says that.
        asked: the net as it is asked, where that is not the net itself: see ``Task.guided``.
        part: which part of the task it does; None for all of it.
        told: where a recipe names the task.
        as_teacher: whether it is a teacher that no recipe names.
    """

    called: str
    net: Net
    made_for: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    use: Spec | None = None
    asked: Net | None = None
    part: str | None = None
    told: str = "task"
    as_teacher: bool = False

    @property
    def teaches(self) -> bool:
        """Whether it is a teacher, which sees what teachers do."""
        return self.as_teacher or (self.key or "").startswith("teacher")


def are_alike(kind: str, other: str) -> bool:
    """Whether two tasks are for nets of one kind."""
    return kind == other or other in task_class({"name": kind}).alike or kind in task_class({"name": other}).alike
