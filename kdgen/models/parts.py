"""Many images drawn in parts that fit into memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

IMAGES, PIXELS = 100, 2**20
"""Most images that a net draws at once, and most pixels of them all."""

Drawn = Callable[[int, int], None]
"""Told how many images are drawn, and of how many, as it goes on."""


_listener: ContextVar[Drawn | None] = ContextVar("listener", default=None)


@contextmanager
def telling(listener: Drawn) -> Iterator[None]:
    """While open, a listener is told how many images a model has drawn that are to be trained on."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def listening() -> Drawn | None:
    """Who is told, None for nobody."""
    return _listener.get()


def at_once(pixels: int) -> int:
    """How many images of so many pixels are drawn at once."""
    return max(min(IMAGES, PIXELS // pixels), 1)


def in_parts(
    number: int, most: int, make: Callable[[int, int], Tensor], progress: Drawn | None = None
) -> Iterator[Tensor]:
    """What ``make(begin, end)`` gives for successive parts of ``number`` images, of which it takes ``most`` at once.

    Half as many, and half again, where the memory does not hold them.
    """
    begin = 0
    while begin < number:
        try:
            part = make(begin, min(begin + most, number))
        except Exception as error:
            if most == 1 or not should_reduce_batch_size(error):
                raise
            most //= 2
            clear_device_cache(garbage_collection=True)
            continue
        begin += len(part)
        if progress is not None:
            progress(begin, number)
        yield part
