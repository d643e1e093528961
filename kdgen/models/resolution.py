"""Nets of latents that draw at several sizes: as their task says, or as somebody asks for once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from kdgen.models.task_arguments import task_class
from kdgen.types import Net, UserError, text


@runtime_checkable
class Sizable(Protocol):
    """A net of latents that says at which size it draws.

    Attributes:
        size: height and width of its latents.
    """

    size: int

    def draw_at(self, size: int) -> None:
        """Have it draw latents of another height and width. Raises UserError for such as its pipeline does not draw."""
        ...

    def size_for(self, resolution: int) -> int:
        """Height and width of the latents of pictures of so many pixels. Raises UserError for such as it draws not."""
        ...


def draw_as_told(net: Net, facts: Mapping[str, Any]) -> None:
    """Have a net of latents draw at the size that a task says; any other net stays as it is.

    Raises:
        UserError: for a size that its pipeline does not draw.
    """
    if isinstance(net, Sizable) and task_class(facts).gives == "latents" and isinstance(facts.get("size"), int):
        net.draw_at(facts["size"])


@contextmanager
def drawing_at(net: Net, name: str, resolution: int | None) -> Iterator[None]:
    """While open, a net of latents draws pictures of a height and width in pixels; None is as it draws anyway.

    Raises:
        UserError: for a size that its pipeline does not draw, and another kind of net.
    """
    if resolution is None:
        yield
        return
    if not isinstance(net, Sizable):
        raise UserError(text("draws_one_size", "{name} draws images of one size: leave resolution out", name=name))
    own = net.size
    net.draw_at(net.size_for(resolution))
    try:
        yield
    finally:
        net.draw_at(own)


__all__ = ["Sizable", "draw_as_told", "drawing_at"]
